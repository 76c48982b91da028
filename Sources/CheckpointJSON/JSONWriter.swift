public import Bytes

/// A streaming writer for one JSON document.
///
///     try JSONWriter.document(to: output) { json in
///         json.member("schema", "rwkv-ckpt/diff/1")
///         json.array("files", of: files) { json, file in
///             json.member("path", file.path)
///             json.member("bytes", file.byteCount)
///         }
///     }
///
/// Objects and arrays are indented unless they, or a container around them, are written with `onOneLine`.
@usableFromInline
package struct JSONWriter {
    private struct Level {
        let close: UInt8
        let onOneLine: Bool
        var isEmpty = true
    }

    private var output: ByteOutput
    private var levels: [Level] = []
    private var followsName = false

    /// Writes a document that is one object.
    ///
    /// - Parameters:
    ///   - output: receives the document.
    ///   - onOneLine: whether to write the document on one line.
    ///   - members: writes the members of the object.
    /// - Throws: any error from sending the bytes of `output`.
    package static func document(
        to output: consuming ByteOutput, onOneLine: Bool = false, _ members: (inout JSONWriter) -> Void
    ) throws {
        var json = JSONWriter(output: output)
        json.object(onOneLine: onOneLine, members)
        try json.output.finish()
    }

    // MARK: Values

    /// Writes a value: an element of an array, or the value of a member whose name was just written.
    @inlinable
    package mutating func value(_ value: some JSONWritable) {
        value.write(to: &self)
    }

    /// Writes an object.
    @inlinable
    package mutating func object(
        onOneLine: Bool = false, _ members: (inout JSONWriter) -> Void
    ) {
        begin(UInt8(ascii: "{"), close: UInt8(ascii: "}"), onOneLine)
        members(&self)
        end()
    }

    /// Writes an array.
    @inlinable
    package mutating func array(
        onOneLine: Bool = false, _ elements: (inout JSONWriter) -> Void
    ) {
        begin(UInt8(ascii: "["), close: UInt8(ascii: "]"), onOneLine)
        elements(&self)
        end()
    }

    // MARK: Members

    /// Writes a member whose name the document's schema defines.
    @inlinable
    package mutating func member(_ name: StaticString, _ value: some JSONWritable) {
        begin(member: name)
        value.write(to: &self)
    }

    /// Writes a member whose name comes from data.
    @inlinable
    package mutating func member(text name: String, _ value: some JSONWritable) {
        begin(memberText: name)
        value.write(to: &self)
    }

    /// Writes a member that is an object.
    @inlinable
    package mutating func object(
        _ name: StaticString, onOneLine: Bool = false, _ members: (inout JSONWriter) -> Void
    ) {
        begin(member: name)
        object(onOneLine: onOneLine, members)
    }

    /// Writes a member that is an object and whose name comes from data.
    @inlinable
    package mutating func object(
        text name: String, onOneLine: Bool = false, _ members: (inout JSONWriter) -> Void
    ) {
        begin(memberText: name)
        object(onOneLine: onOneLine, members)
    }

    /// Writes a member that is an object on one line, or `null` if `value` is nil.
    @inlinable
    package mutating func object<Value>(
        _ name: StaticString, of value: Value?, _ members: (inout JSONWriter, Value) -> Void
    ) {
        guard let value else { return member(name, JSONValue.null) }
        begin(member: name)
        object(onOneLine: true) { json in members(&json, value) }
    }

    /// Writes a member that is an array.
    @inlinable
    package mutating func array(_ name: StaticString, _ elements: (inout JSONWriter) -> Void) {
        begin(member: name)
        array(elements)
    }

    /// Writes a member that is an array of objects, each on one line.
    @inlinable
    package mutating func array<Elements: Sequence>(
        _ name: StaticString, of elements: Elements,
        _ members: (inout JSONWriter, Elements.Element) -> Void
    ) {
        begin(member: name)
        array { json in
            for element in elements {
                json.object(onOneLine: true) { json in members(&json, element) }
            }
        }
    }

    fileprivate mutating func write(plain text: String) {
        separate()
        output.write(text)
    }

    fileprivate mutating func write(_ number: Int) {
        separate()
        output.write(number)
    }

    fileprivate mutating func write(quoting text: String) {
        separate()
        quote(text)
    }

    @usableFromInline
    mutating func begin(member name: StaticString) {
        separate()
        output.write(byte: UInt8(ascii: "\""))
        output.write(name)
        output.write("\": ")
        followsName = true
    }

    @usableFromInline
    mutating func begin(memberText name: String) {
        separate()
        quote(name)
        output.write(": ")
        followsName = true
    }

    @usableFromInline
    mutating func begin(_ open: UInt8, close: UInt8, _ onOneLine: Bool) {
        separate()
        output.write(byte: open)
        levels.append(Level(close: close, onOneLine: onOneLine || levels.last?.onOneLine == true))
    }

    @usableFromInline
    mutating func end() {
        guard let level = levels.popLast() else { return }
        if !level.isEmpty, !level.onOneLine { newLine() }
        output.write(byte: level.close)
        if levels.isEmpty { output.write("\n") }
    }

    private mutating func separate() {
        if followsName {
            followsName = false
            return
        }
        guard let last = levels.indices.last else { return }
        if !levels[last].isEmpty { output.write(levels[last].onOneLine ? ", " : ",") }
        if !levels[last].onOneLine { newLine() }
        levels[last].isEmpty = false
    }

    private mutating func newLine() {
        output.write(byte: UInt8(ascii: "\n"))
        output.write(spaces: 2 * levels.count)
    }

    private mutating func quote(_ text: String) {
        guard text.isPlain else { return output.write(text.quotedJSON) }
        output.write(byte: UInt8(ascii: "\""))
        output.write(text)
        output.write(byte: UInt8(ascii: "\""))
    }
}

/// A type whose values can be written to a JSON document.
@usableFromInline
package protocol JSONWritable {
    /// Writes the value.
    func write(to json: inout JSONWriter)
}

extension String: JSONWritable {
    @usableFromInline
    package func write(to json: inout JSONWriter) { json.write(quoting: self) }
}

extension ByteString: JSONWritable {
    @usableFromInline
    package func write(to json: inout JSONWriter) { json.write(quoting: text) }
}

extension Int: JSONWritable {
    @usableFromInline
    package func write(to json: inout JSONWriter) { json.write(self) }
}

extension Double: JSONWritable {
    /// Writes the number, or `null` for infinities and NaN, which JSON cannot represent.
    @usableFromInline
    package func write(to json: inout JSONWriter) { json.write(plain: isFinite ? description : "null") }
}

extension Bool: JSONWritable {
    @usableFromInline
    package func write(to json: inout JSONWriter) { json.write(plain: self ? "true" : "false") }
}

extension Optional: JSONWritable where Wrapped: JSONWritable {
    /// Writes the value, or `null` for nil.
    @inlinable
    package func write(to json: inout JSONWriter) {
        if let self { self.write(to: &json) } else { JSONValue.null.write(to: &json) }
    }
}

extension Array: JSONWritable where Element: JSONWritable {
    /// Writes the elements on one line.
    @inlinable
    package func write(to json: inout JSONWriter) {
        json.array(onOneLine: true) { json in
            for element in self { element.write(to: &json) }
        }
    }
}

extension JSONValue: JSONWritable {
    /// Writes the value; members of objects are sorted by the bytes of their keys.
    @usableFromInline
    package func write(to json: inout JSONWriter) {
        switch self {
        case .null: json.write(plain: "null")
        case .bool(let truth): truth.write(to: &json)
        case .integer(let number): number.write(to: &json)
        case .number(let number): number.write(to: &json)
        case .string(let text): text.write(to: &json)
        case .array(let elements):
            json.array { json in
                for element in elements { element.write(to: &json) }
            }
        case .object(let members): json.object { $0.members(members) }
        }
    }
}

extension JSONWriter {
    /// Writes members whose names come from data, sorted by the bytes of their names.
    @inlinable
    package mutating func members(_ members: [ByteString: some JSONWritable]) {
        for (name, value) in members.sorted(by: { $0.key < $1.key }) { member(text: name.text, value) }
    }
}

extension String {
    /// The text as a JSON string, with its quotes; unprintable scalars are escaped.
    public var quotedJSON: String {
        if isPlain { return "\"" + self + "\"" }
        var quoted = "\""
        for scalar in unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case _ where scalar.isUnprintable:
                for unit in String(scalar).utf16 {
                    let digits = String(unit, radix: 16)
                    quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
