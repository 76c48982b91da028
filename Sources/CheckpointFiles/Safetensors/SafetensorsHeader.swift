import Bytes
import CheckpointJSON

/// The header of a safetensors file: its JSON text, and for each tensor a 32-byte entry that refers to the text.
///
/// Names are decoded in place, and shapes are parsed again on each access, so a header with a million tensors takes
/// little more memory than its text.
///
/// The format is described in the section "Format" of <https://github.com/huggingface/safetensors>. This parser is
/// stricter than the reference implementation. It also rejects duplicate names, metadata keys and fields; NUL in names;
/// more dimensions than ``ReadLimits/rank``; shapes whose nonzero dimensions have a product that overflows; tensors
/// that are not objects; and dtypes that are not strings.
struct SafetensorsHeader: Sendable {
    struct Entry: Sendable {
        /// The offset of the tensor's first byte in the data after the header.
        var begin: Int
        var end: Int
        var nameStart: UInt32
        var nameCount: UInt32
        /// The offset of the shape's `[` in the text.
        var shapeStart: UInt32
        var dtype: DType

        var nameRange: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
    }

    /// The JSON text of the header, with escaped names and metadata keys decoded in place.
    let text: [UInt8]
    /// The tensors in the order of their data; empty tensors at the same offset are in the order of the header.
    let entries: [Entry]
    /// The entries of `__metadata__`, in the order of the header.
    let metadata: [(key: Range<Int>, value: JSONString)]
    /// The warnings for the user, with at most one of each kind.
    let warnings: [String]

    private let names: NameTable

    /// Creates a header from its JSON text, which is followed by `dataCount` bytes of data in the file.
    ///
    /// - Throws: `MalformedInput` with an offset from the start of `text`.
    init(_ text: consuming [UInt8], dataCount: Int, limits: ReadLimits) throws(MalformedInput) {
        var parser = SafetensorsHeaderParser(dataCount: dataCount, limits: limits, headerBytes: text.count)
        try parser.parse(text.span)
        parser.unescapeNames(in: &text)
        var entries = parser.entries
        func precedes(_ a: Entry, _ b: Entry) -> Bool {
            (a.begin, a.end, a.shapeStart) < (b.begin, b.end, b.shapeStart)
        }
        let isSorted = zip(entries, entries.dropFirst()).allSatisfy(precedes)
        if !isSorted { entries.sort(by: precedes) }
        var names = NameTable(capacity: entries.count)
        for id in entries.indices {
            let earlier = names.insert(UInt32(id), text: text) { entries[Int($0)].nameRange }
            guard earlier == nil else {
                throw MalformedInput(
                    "the tensor is listed twice", at: entries[id].nameRange.lowerBound,
                    tensor: excerpt(text[entries[id].nameRange]))
            }
        }
        var metadataNames = NameTable(capacity: parser.metadata.count)
        for id in parser.metadata.indices {
            let earlier = metadataNames.insert(UInt32(id), text: text) { parser.metadata[Int($0)].key }
            guard earlier == nil else {
                throw MalformedInput("a metadata key appears twice", at: parser.metadata[id].key.lowerBound)
            }
        }
        try Self.checkPlaces(entries, dataCount: dataCount, text: text)
        self.text = text
        self.entries = entries
        self.metadata = parser.metadata
        self.warnings = parser.warnings
        self.names = names
    }

    /// Returns the index in ``entries`` of the tensor whose name has exactly these bytes, or nil if there is none.
    func position(of name: ArraySlice<UInt8>) -> Int? {
        names.find(name, text: text) { entries[Int($0)].nameRange }.map(Int.init)
    }

    func name(of entry: Entry) -> String {
        String(decoding: text[entry.nameRange], as: UTF8.self)
    }

    /// Returns the shape of a tensor, which is parsed again from the validated text.
    func shape(of entry: Entry) -> [Int] {
        var shape: [Int] = []
        var dimension: Int?
        for byte in text[(Int(entry.shapeStart) + 1)...] {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                dimension = (dimension ?? 0) * 10 + Int(byte - UInt8(ascii: "0"))
            case UInt8(ascii: ","), UInt8(ascii: "]"):
                if let dimension { shape.append(dimension) }
                dimension = nil
                if byte == UInt8(ascii: "]") { return shape }
            default: continue
            }
        }
        return shape
    }

    /// Checks that the tensors cover the data completely, without gaps or overlaps.
    private static func checkPlaces(_ entries: [Entry], dataCount: Int, text: [UInt8]) throws(MalformedInput) {
        func malformed(_ problem: String, _ entry: Entry, expected: Int, found: Int) -> MalformedInput {
            MalformedInput(
                problem, at: entry.nameRange.lowerBound, tensor: excerpt(text[entry.nameRange]),
                expected: "\(expected)", found: "\(found)")
        }
        var end = 0
        for entry in entries {
            guard entry.begin == end else {
                let problem =
                    entry.begin < end
                    ? "the tensor's data overlaps that of another" : "there is a gap before the tensor's data"
                throw malformed(problem, entry, expected: end, found: entry.begin)
            }
            end = entry.end
        }
        guard end == dataCount else {
            throw MalformedInput(
                "there are bytes after the data of the last tensor", at: text.count + end,
                expected: "\(end) bytes of data", found: "\(dataCount)")
        }
    }
}

/// Returns the first 1000 bytes of a name as text, for use in an error message.
func excerpt(_ name: ArraySlice<UInt8>) -> String {
    String(decoding: name.prefix(1000), as: UTF8.self)
}
