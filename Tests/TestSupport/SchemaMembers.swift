import Bytes
package import CheckpointJSON

/// Compares the members of a record with the properties that a JSON schema gives its object.
package struct SchemaMembers: JSONMembers {
    private let root: JSONValue
    private let schema: JSONValue?
    private let path: String
    private var names: Set<ByteString> = []
    private var required: Set<ByteString> = []
    private var problems: [String] = []

    private init(_ schema: JSONValue?, in root: JSONValue, path: String) {
        var schema = schema
        if let reference = schema?["$ref"]?.string {
            schema = reference.text.split(separator: "/").dropFirst().reduce(root) { $0?[String($1)] }
        }
        (self.schema, self.root, self.path) = (schema, root, path)
    }

    /// Compares the members of a record with a schema.
    ///
    /// - Parameters:
    ///   - record: the type of the record.
    ///   - definition: the name in the schema's `$defs`; nil for the schema itself.
    ///   - root: the schema.
    /// - Returns: a line for each difference.
    package static func differences<Record: JSONRecord>(
        of record: Record.Type, from definition: String? = nil, in root: JSONValue
    ) -> [String] {
        var members = SchemaMembers(definition.map { root["$defs"]?[$0] } ?? root, in: root, path: "")
        var record = Record()
        record.describe(to: &members)
        return members.finish()
    }

    private mutating func finish() -> [String] {
        for name in Set((schema?["properties"]?.object ?? [:]).keys).subtracting(names).sorted() {
            problems.append("\(path)\(name): not a member")
        }
        let own = Set((schema?["required"]?.array ?? []).compactMap(\.string))
        for name in required.subtracting(own).sorted() { problems.append("\(path)\(name): not required") }
        return problems
    }

    private mutating func property(_ name: String) -> JSONValue? {
        names.insert(ByteString(name))
        let additional = schema?["additionalProperties"].flatMap { $0.object == nil ? nil : $0 }
        let property = schema?["properties"]?[name] ?? additional
        if property == nil { problems.append("\(path)\(name): not a property") }
        return property
    }

    private mutating func check<Value: JSONReadable>(_ name: String, _: Value.Type) {
        guard let choices = property(name)?["enum"]?.array, Value.jsonType != String.jsonType else { return }
        let words = Set(Value.jsonType.split(separator: " or ").map { ByteString($0) })
        if words != Set(choices.compactMap(\.string)) { problems.append("\(path)\(name): other values") }
    }

    private mutating func descend(
        _ name: String, _ schema: JSONValue?, _ members: (inout SchemaMembers) -> Void
    ) {
        var inner = SchemaMembers(schema, in: root, path: "\(path)\(name).")
        members(&inner)
        problems += inner.finish()
    }

    package mutating func member<Value: JSONReadable>(_ name: StaticString, _ value: inout Value) {
        required.insert(ByteString("\(name)"))
        check("\(name)", Value.self)
    }

    package mutating func member<Value: JSONReadable>(ifPresent name: String, _ value: inout Value?) {
        check(name, Value.self)
    }

    package mutating func object(
        _ name: StaticString, onOneLine: Bool, _ members: (inout SchemaMembers) -> Void
    ) {
        required.insert(ByteString("\(name)"))
        descend("\(name)", property("\(name)"), members)
    }

    package mutating func object<Record: JSONRecord>(ifPresent name: String, _ record: inout Record?) {
        var record = Record()
        descend(name, property(name)) { record.describe(to: &$0) }
    }

    package mutating func array<Record: JSONRecord>(
        _ name: StaticString, ifPresent: Bool, _ records: inout [Record]
    ) {
        if !ifPresent { required.insert(ByteString("\(name)")) }
        var record = Record()
        descend("\(name)", property("\(name)")?["items"]) { record.describe(to: &$0) }
    }
}
