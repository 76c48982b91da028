package import Bytes

/// A type that declares the members of its JSON object once, for both writing and reading.
///
///     extension Step: JSONRecord {
///         mutating func describe(to members: inout some JSONMembers) {
///             members.member("step", &number)
///             members.member("loss", &loss)
///         }
///     }
package protocol JSONRecord {
    /// Creates a record whose members have not been read yet.
    init()

    /// Passes every member, in the order of the document, to a visitor that writes the member or assigns it.
    mutating func describe(to members: inout some JSONMembers)
}

extension JSONRecord {
    /// Reads a record from an object.
    ///
    /// - Throws: ``JSONMismatch``: the first member that is missing or has the wrong type.
    package init(_ object: JSONValue) throws(JSONMismatch) {
        self.init()
        var reader = JSONReader(object: object, path: [])
        describe(to: &reader)
        if let mismatch = reader.mismatch { throw mismatch }
    }
}

/// A visitor of the members of a ``JSONRecord``: ``JSONWriter``, or the reader of ``JSONRecord/init(_:)``.
package protocol JSONMembers {
    /// Visits a member that is a single value.
    mutating func member(_ name: StaticString, _ value: inout some JSONReadable)

    /// Visits a member that is a single value, and that is omitted from the object if the value is nil.
    mutating func member(ifPresent name: String, _ value: inout (some JSONReadable)?)

    /// Visits a member that is an object.
    mutating func object(_ name: StaticString, onOneLine: Bool, _ members: (inout Self) -> Void)

    /// Visits a member that is an object on one line, and that is omitted from the outer object if the record is nil.
    mutating func object(ifPresent name: String, _ record: inout (some JSONRecord)?)

    /// Visits a member that is an array of objects, each on one line.
    ///
    /// If `ifPresent` is true, an empty array is omitted from the outer object.
    mutating func array(_ name: StaticString, ifPresent: Bool, _ records: inout [some JSONRecord])
}

/// A type of single values that can be written to a JSON document and read back.
package protocol JSONReadable: JSONWritable {
    /// A description of the required JSON type for error messages, such as `an integer`.
    static var jsonType: String { get }

    /// Creates the value that a JSON value represents; nil if the JSON value has the wrong type.
    init?(json: JSONValue)
}

/// A member that is missing or has the wrong type.
package struct JSONMismatch: Error {
    /// The names of the enclosing members, outermost first, followed by the member's own name.
    package let path: [String]
    /// What the member must be.
    package let expected: String
    /// The value of the member; nil if the member is missing.
    package let found: JSONValue?
}

// MARK: Writing

extension JSONWriter: JSONMembers {
    /// Writes the members of a record.
    package mutating func members(of record: some JSONRecord) {
        var record = record
        record.describe(to: &self)
    }

    package mutating func member(_ name: StaticString, _ value: inout some JSONReadable) {
        member(name, value)
    }

    package mutating func member(ifPresent name: String, _ value: inout (some JSONReadable)?) {
        if let value { member(text: name, value) }
    }

    package mutating func object(ifPresent name: String, _ record: inout (some JSONRecord)?) {
        guard let record else { return }
        object(text: name, onOneLine: true) { $0.members(of: record) }
    }

    package mutating func array(_ name: StaticString, ifPresent: Bool, _ records: inout [some JSONRecord]) {
        guard !ifPresent || !records.isEmpty else { return }
        array(name, of: records) { $0.members(of: $1) }
    }
}

// MARK: Reading

private struct JSONReader: JSONMembers {
    let object: JSONValue
    let path: [String]
    /// The first member that is missing or has the wrong type.
    var mismatch: JSONMismatch?

    mutating func member<Value: JSONReadable>(_ name: StaticString, _ value: inout Value) {
        read("\(name)", &value)
    }

    mutating func member<Value: JSONReadable>(ifPresent name: String, _ value: inout Value?) {
        guard object[name] != nil else { return value = nil }
        read(name, &value)
    }

    mutating func object(_ name: StaticString, onOneLine: Bool, _ members: (inout JSONReader) -> Void) {
        guard let object = object("\(name)") else { return }
        descend(into: object, ["\(name)"], members)
    }

    mutating func object<Record: JSONRecord>(ifPresent name: String, _ record: inout Record?) {
        guard object[name] != nil, let object = object(name) else { return record = nil }
        var read = Record()
        descend(into: object, [name]) { read.describe(to: &$0) }
        record = read
    }

    mutating func array<Record: JSONRecord>(_ name: StaticString, ifPresent: Bool, _ records: inout [Record]) {
        let name = "\(name)"
        guard !ifPresent || object[name] != nil else { return records = [] }
        guard let elements = object[name]?.array else { return fail(name, expected: "an array") }
        records = elements.enumerated().map { position, element in
            var record = Record()
            descend(into: element, [name, "\(position)"]) { record.describe(to: &$0) }
            return record
        }
    }

    private mutating func read<Value: JSONReadable>(_ name: String, _ value: inout Value) {
        guard let read = object[name].flatMap(Value.init(json:)) else { return fail(name, expected: Value.jsonType) }
        value = read
    }

    private mutating func object(_ name: String) -> JSONValue? {
        guard let object = object[name], object.object != nil else {
            fail(name, expected: "an object")
            return nil
        }
        return object
    }

    private mutating func descend(into object: JSONValue, _ names: [String], _ members: (inout JSONReader) -> Void) {
        var reader = JSONReader(object: object, path: path + names)
        members(&reader)
        mismatch = mismatch ?? reader.mismatch
    }

    private mutating func fail(_ name: String, expected: String) {
        mismatch = mismatch ?? JSONMismatch(path: path + [name], expected: expected, found: object[name])
    }
}

extension Int: JSONReadable {
    package static var jsonType: String { "an integer" }

    /// Creates the integer; `JSONValue` has the largest as a number, and clamped totals are written as that integer.
    package init?(json: JSONValue) {
        guard let integer = json == .number(Double(Int.max)) ? .max : json.integer else { return nil }
        self = integer
    }
}

extension Double: JSONReadable {
    package static var jsonType: String { "a number" }

    /// Creates the number; NaN for `null`, which represents a number that is not finite.
    package init?(json: JSONValue) {
        guard let number = json == .null ? .nan : json.double else { return nil }
        self = number
    }
}

extension Bool: JSONReadable {
    package static var jsonType: String { "true or false" }

    package init?(json: JSONValue) {
        guard let truth = json.bool else { return nil }
        self = truth
    }
}

extension ByteString: JSONReadable {
    package static var jsonType: String { "text" }

    package init?(json: JSONValue) {
        guard let text = json.string else { return nil }
        self = text
    }
}

extension String: JSONReadable {
    package static var jsonType: String { "text" }

    package init?(json: JSONValue) {
        guard let text = json.string else { return nil }
        self = text.text
    }
}

extension Optional: JSONReadable where Wrapped: JSONReadable {
    package static var jsonType: String { "\(Wrapped.jsonType) or null" }

    package init?(json: JSONValue) {
        if json == .null {
            self = .none
        } else {
            guard let value = Wrapped(json: json) else { return nil }
            self = value
        }
    }
}

extension Array: JSONReadable where Element: JSONReadable {
    package static var jsonType: String { "an array, each element \(Element.jsonType)" }

    package init?(json: JSONValue) {
        guard let elements = json.array else { return nil }
        self = []
        for element in elements {
            guard let value = Element(json: element) else { return nil }
            append(value)
        }
    }
}

extension JSONReadable where Self: CaseIterable & RawRepresentable<String> {
    package static var jsonType: String { allCases.map(\.rawValue).joined(separator: " or ") }

    package init?(json: JSONValue) {
        guard let text = json.string else { return nil }
        self.init(text)
    }

    package func write(to json: inout JSONWriter) { rawValue.write(to: &json) }
}
