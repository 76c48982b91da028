import CJSONC

/// A small JSON document as a value: a config.json, a plan.
///
/// What json-c builds after ``JSONScanner`` has passed every byte; json-c alone takes what is not JSON.
public enum JSONValue: Sendable, Hashable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number without fraction or exponent that fits in 64 bits.
    case integer(Int)
    /// Any other number.
    case number(Double)
    /// A string.
    case string(String)
    /// An array.
    case array([JSONValue])
    /// An object; no key is there twice.
    case object([String: JSONValue])

    /// The longest document, in bytes.
    public static let maximumBytes = 8 << 20

    /// Reads one document.
    ///
    /// - Throws: ``MalformedInput`` where it is not JSON, is too long, or has a key twice.
    public init(document bytes: [UInt8]) throws(MalformedInput) {
        guard bytes.count <= Self.maximumBytes else {
            throw MalformedInput(
                "the document is too long", at: Self.maximumBytes, expected: "\(Self.maximumBytes) bytes at the most",
                found: "\(bytes.count)")
        }
        var scanner = JSONScanner(bytes.span)
        try scanner.skipValue()
        try scanner.end()
        // In C, text ends at the first NUL.
        guard !bytes.contains(sequence: #"\u0000"#.utf8) else {
            throw MalformedInput("the document has a NUL in it", at: 0)
        }
        let tokener = json_tokener_new_ex(Int32(JSONScanner.maximumDepth + 1))
        defer { json_tokener_free(tokener) }
        // A number at the end is complete only when something follows.
        let text = bytes + [UInt8(ascii: "\n")]
        let object = text.withUnsafeBytes { buffer in
            json_tokener_parse_ex(tokener, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(buffer.count))
        }
        guard json_tokener_get_error(tokener) == json_tokener_success else {
            throw MalformedInput("the document cannot be read", at: 0)
        }
        defer { json_object_put(object) }
        self.init(object)
        // json-c keeps the last of members with one key.
        guard memberCount == text.memberCount else { throw MalformedInput("an object has a key twice", at: 0) }
    }

    private init(_ object: OpaquePointer?) {
        switch json_object_get_type(object) {
        case json_type_boolean: self = .bool(json_object_get_boolean(object) != 0)
        case json_type_int:
            // Saturated where it does not fit.
            let value = json_object_get_int64(object)
            self = value == .max || value == .min ? .number(json_object_get_double(object)) : .integer(Int(value))
        case json_type_double: self = .number(json_object_get_double(object))
        case json_type_string:
            let bytes = UnsafeRawBufferPointer(
                start: json_object_get_string(object), count: Int(json_object_get_string_len(object)))
            self = .string(String(decoding: bytes, as: UTF8.self))
        case json_type_array:
            self = .array(
                (0..<json_object_array_length(object)).map { JSONValue(json_object_array_get_idx(object, $0)) })
        case json_type_object:
            var members: [String: JSONValue] = [:]
            var entry = json_object_get_object(object).flatMap { lh_table_head($0) }
            while let member = entry {
                if let key = lh_entry_k(member) {
                    members[String(cString: key.assumingMemoryBound(to: CChar.self))] = JSONValue(
                        lh_entry_v(member).map { OpaquePointer($0) })
                }
                entry = lh_entry_next(member)
            }
            self = .object(members)
        default: self = .null
        }
    }

    private var memberCount: Int {
        switch self {
        case .array(let elements): elements.reduce(0) { $0 + $1.memberCount }
        case .object(let members): members.values.reduce(members.count) { $0 + $1.memberCount }
        default: 0
        }
    }

    /// The member with this key; nil where there is none, or this is no object.
    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[key] } else { nil }
    }

    /// The integer that this is.
    public var integer: Int? {
        if case .integer(let value) = self { value } else { nil }
    }

    /// The number that this is, with or without a fraction.
    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    /// The truth value that this is.
    public var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    /// The text that this is.
    public var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    /// The elements of the array that this is.
    public var array: [JSONValue]? {
        if case .array(let value) = self { value } else { nil }
    }
}

extension JSONValue: CustomStringConvertible {
    /// What it is, for a message: scalars as they are, containers by their kind.
    public var description: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .string(let value): "\"\(value)\""
        case .array: "an array"
        case .object: "an object"
        }
    }
}

extension [UInt8] {
    /// How many members the objects of a document have: colons outside of strings.
    fileprivate var memberCount: Int {
        var count = 0
        var isInString = false
        var isEscaped = false
        for byte in self {
            switch byte {
            case _ where isEscaped: isEscaped = false
            case UInt8(ascii: "\\"): isEscaped = true
            case UInt8(ascii: "\""): isInString.toggle()
            case UInt8(ascii: ":") where !isInString: count += 1
            default: break
            }
        }
        return count
    }

    fileprivate func contains(sequence: some Collection<UInt8>) -> Bool {
        indices.contains { self[$0...].starts(with: sequence) }
    }
}
