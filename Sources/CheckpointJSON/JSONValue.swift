public import Bytes
import CJSONC

/// A value in a small JSON document, such as a config.json or a plan.
///
/// ``JSONScanner`` checks every byte before json-c builds the value, because json-c accepts text that is not JSON.
public enum JSONValue: Sendable, Hashable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number that has no fraction or exponent and is strictly between `Int.min` and `Int.max`.
    case integer(Int)
    /// Any other number.
    case number(Double)
    /// A string.
    case string(ByteString)
    /// An array.
    case array([JSONValue])
    /// An object, whose keys are unique.
    case object([ByteString: JSONValue])

    /// The maximum length of a document, in bytes.
    public static let maximumBytes = 8 << 20

    /// Creates a value by parsing a JSON document.
    ///
    /// - Throws: `MalformedInput` if the document is not valid JSON, is too long or too deeply nested, or has a
    ///   duplicate key or a NUL in a string.
    public init(document bytes: [UInt8]) throws(MalformedInput) {
        guard bytes.count <= Self.maximumBytes else {
            throw MalformedInput(
                "the document is too long", at: Self.maximumBytes, expected: "at most \(Self.maximumBytes) bytes",
                found: "\(bytes.count)")
        }
        try Self.check(bytes)
        let tokener = json_tokener_new_ex(Int32(JSONScanner.maximumDepth + 1))
        defer { json_tokener_free(tokener) }
        // json-c treats a number at the end as complete only if another byte follows it.
        let text = bytes + [UInt8(ascii: "\n")]
        let object = text.withUnsafeBytes { buffer in
            json_tokener_parse_ex(tokener, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(buffer.count))
        }
        guard json_tokener_get_error(tokener) == json_tokener_success else {
            throw MalformedInput("the document cannot be read", at: 0)
        }
        defer { json_object_put(object) }
        self.init(object)
    }

    /// Throws if the bytes are not valid JSON or if json-c would misread them.
    ///
    /// json-c keeps only the last of several duplicate keys, and ends a key at the first NUL.
    private static func check(_ bytes: [UInt8]) throws(MalformedInput) {
        /// The keys of each open object.
        var keys: [Set<ByteString>] = []
        func text(_ string: JSONString) throws(MalformedInput) -> ByteString {
            let text = string.decoded(from: bytes.span)
            guard !string.hasEscapes || !text.contains(0) else {
                throw MalformedInput("a string has a NUL in it", at: string.range.lowerBound)
            }
            return ByteString(String(decoding: text, as: UTF8.self))
        }
        var scanner = JSONScanner(bytes.span)
        try scanner.walk { piece throws(MalformedInput) in
            switch piece {
            case .objectStart: keys.append([])
            case .objectEnd: keys.removeLast()
            case .key(let key):
                let name = try text(key)
                guard keys[keys.count - 1].insert(name).inserted else {
                    throw MalformedInput(
                        "an object has the key \"\(String(name.text.unicodeScalars.prefix(200)))\" twice",
                        at: key.range.lowerBound)
                }
            case .string(let string): if string.hasEscapes { _ = try text(string) }
            }
        }
        try scanner.end()
    }

    private init(_ object: OpaquePointer?) {
        switch json_object_get_type(object) {
        case json_type_boolean: self = .bool(json_object_get_boolean(object) != 0)
        case json_type_int:
            // json-c clamps integers that are out of range.
            let value = json_object_get_int64(object)
            self = value == .max || value == .min ? .number(json_object_get_double(object)) : .integer(Int(value))
        case json_type_double: self = .number(json_object_get_double(object))
        case json_type_string:
            let bytes = UnsafeRawBufferPointer(
                start: json_object_get_string(object), count: Int(json_object_get_string_len(object)))
            self = .string(ByteString(String(decoding: bytes, as: UTF8.self)))
        case json_type_array:
            self = .array(
                (0..<json_object_array_length(object)).map { JSONValue(json_object_array_get_idx(object, $0)) })
        case json_type_object:
            var members: [ByteString: JSONValue] = [:]
            var entry = json_object_get_object(object).flatMap { lh_table_head($0) }
            while let member = entry {
                if let key = lh_entry_k(member) {
                    let name = ByteString(String(cString: key.assumingMemoryBound(to: CChar.self)))
                    members[name] = JSONValue(lh_entry_v(member).map { OpaquePointer($0) })
                }
                entry = lh_entry_next(member)
            }
            self = .object(members)
        default: self = .null
        }
    }

    /// The member with the given key, compared byte by byte; nil if there is none or the value is not an object.
    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[ByteString(key)] } else { nil }
    }

    /// The integer; nil if the value is not an integer.
    public var integer: Int? {
        if case .integer(let value) = self { value } else { nil }
    }

    /// The number, converted to a double; nil if the value is not a number.
    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    /// The Boolean value; nil if the value is neither `true` nor `false`.
    public var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    /// The string; nil if the value is not a string.
    public var string: ByteString? {
        if case .string(let value) = self { value } else { nil }
    }

    /// The members of the object; nil if the value is not an object.
    public var object: [ByteString: JSONValue]? {
        if case .object(let members) = self { members } else { nil }
    }

    /// The elements of the array; nil if the value is not an array.
    public var array: [JSONValue]? {
        if case .array(let value) = self { value } else { nil }
    }
}

extension JSONValue: CustomStringConvertible {
    /// A description of the value for messages: scalars in full, containers as `an array` or `an object`.
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
