/// A streaming writer for one JSON document.
///
/// Objects and arrays are indented unless they, or a container around them, begin with `onOneLine`.
public struct JSONWriter {
    private struct Level {
        let close: UInt8
        let onOneLine: Bool
        var isEmpty = true
    }

    private var output: ByteOutput
    private var levels: [Level] = []
    private var followsKey = false

    /// Creates a writer that begins a document on `output`.
    public init(_ output: ByteOutput) {
        self.output = output
    }

    /// Begins an object; ``end()`` closes it.
    public mutating func beginObject(onOneLine: Bool = false) {
        begin(UInt8(ascii: "{"), close: UInt8(ascii: "}"), onOneLine)
    }

    /// Begins an array; ``end()`` closes it.
    public mutating func beginArray(onOneLine: Bool = false) {
        begin(UInt8(ascii: "["), close: UInt8(ascii: "]"), onOneLine)
    }

    /// Closes the innermost object or array.
    public mutating func end() {
        guard let level = levels.popLast() else { return }
        if !level.isEmpty, !level.onOneLine { newLine() }
        output.write(byte: level.close)
        if levels.isEmpty { output.write("\n") }
    }

    /// Writes the name of a member that the document's schema defines; the value must come next.
    public mutating func key(_ name: StaticString) {
        separate()
        output.write(byte: UInt8(ascii: "\""))
        output.write(name)
        output.write("\": ")
        followsKey = true
    }

    /// Writes a member name that is data; the value must come next.
    public mutating func key(text name: String) {
        separate()
        quote(name)
        output.write(": ")
        followsKey = true
    }

    /// Writes a string.
    public mutating func value(_ text: String) {
        separate()
        quote(text)
    }

    /// Writes an integer.
    public mutating func value(_ number: Int) {
        separate()
        output.write(number)
    }

    /// Writes a number, or `null` for nil, infinities and NaN, which JSON cannot represent.
    public mutating func value(_ number: Double?) {
        separate()
        guard let number, number.isFinite else { return output.write("null") }
        output.write(number.description)
    }

    /// Writes `true` or `false`.
    public mutating func value(_ truth: Bool) {
        separate()
        output.write(truth ? "true" : "false")
    }

    /// Writes a value; members of objects are sorted by the bytes of their keys.
    public mutating func value(_ value: JSONValue) {
        switch value {
        case .null: null()
        case .bool(let truth): self.value(truth)
        case .integer(let number): self.value(number)
        case .number(let number): self.value(number)
        case .string(let text): self.value(text.text)
        case .array(let elements):
            beginArray()
            for element in elements { self.value(element) }
            end()
        case .object(let members):
            beginObject()
            for (name, member) in members.sorted(by: { $0.key < $1.key }) {
                key(text: name.text)
                self.value(member)
            }
            end()
        }
    }

    /// Writes `null`.
    public mutating func null() {
        separate()
        output.write("null")
    }

    /// Sends the rest of the document.
    ///
    /// - Throws: the first error of the output's receiver.
    public mutating func finish() throws {
        try output.finish()
    }

    private mutating func begin(_ open: UInt8, close: UInt8, _ onOneLine: Bool) {
        separate()
        output.write(byte: open)
        levels.append(Level(close: close, onOneLine: onOneLine || levels.last?.onOneLine == true))
    }

    private mutating func separate() {
        if followsKey {
            followsKey = false
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

// Values in reports.
extension JSONWriter {
    /// Writes a string, or `null` for nil.
    package mutating func value(orNull text: String?) {
        if let text { value(text) } else { null() }
    }

    /// Writes an integer, or `null` for nil.
    package mutating func value(orNull number: Int?) {
        if let number { value(number) } else { null() }
    }

    /// Writes an array of strings on one line.
    package mutating func write(_ texts: [String]) {
        beginArray(onOneLine: true)
        for text in texts { value(text) }
        end()
    }

    /// Writes a shape on one line.
    package mutating func write(_ shape: [Int]) {
        beginArray(onOneLine: true)
        for dimension in shape { value(dimension) }
        end()
    }
}
