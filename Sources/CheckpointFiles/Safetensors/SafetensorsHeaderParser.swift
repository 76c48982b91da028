import Bytes
import CheckpointJSON

/// A one-pass parser for safetensors headers that records the positions of names, shapes and metadata.
struct SafetensorsHeaderParser {
    private(set) var entries: [SafetensorsHeader.Entry] = []
    private(set) var metadata: [(key: Range<Int>, value: JSONString)] = []
    private(set) var warnings: [String] = []

    private let dataCount: Int
    private let limits: ReadLimits
    private var hasMetadata = false
    private var metadataBytes = 0
    /// The tensor names that contain escapes, and the indices of their entries.
    private var escapedNames: [(entry: Int, name: JSONString)] = []
    private var escapedKeys: [(entry: Int, key: JSONString)] = []
    private var unknownFields = 0
    private var firstUnknownField = ""

    /// Creates a parser for a header that is followed by `dataCount` bytes of data.
    init(dataCount: Int, limits: ReadLimits, headerBytes: Int) {
        self.dataCount = dataCount
        self.limits = limits
        // The description of a tensor is never shorter than this. Reserved memory pages that are never touched cost
        // nothing.
        let shortest = #""":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"#.utf8.count
        entries.reserveCapacity(min(limits.tensors, headerBytes / shortest + 1))
    }

    mutating func parse(_ text: Span<UInt8>) throws(MalformedInput) {
        var scanner = JSONScanner(text)
        var more = try scanner.openObject()
        while more {
            let start = scanner.position
            let name = try scanner.key()
            if scanner.matches(name, "__metadata__") {
                guard !hasMetadata else { throw MalformedInput("__metadata__ appears twice", at: start) }
                hasMetadata = true
                try parseMetadata(&scanner)
            } else {
                guard entries.count < limits.tensors else {
                    throw MalformedInput("there are more than \(limits.tensors) tensors", at: start)
                }
                do throws(MalformedInput) {
                    try parseTensor(&scanner, name: name)
                } catch {
                    var named = error
                    named.tensor = scanner.excerpt(of: name)
                    throw named
                }
            }
            more = try scanner.continueObject()
        }
        try scanner.end()
        if unknownFields > 0 {
            warnings.append(
                "\(unknownFields) field\(unknownFields == 1 ? "" : "s") other than dtype, shape and data_offsets ignored; "
                    + "the first is \(firstUnknownField)")
        }
    }

    /// Replaces escaped tensor names and metadata keys in the text with their decoded forms.
    mutating func unescapeNames(in text: inout [UInt8]) {
        for (entry, name) in escapedNames {
            let range = text.unescape(name)
            entries[entry].nameStart = UInt32(range.lowerBound)
            entries[entry].nameCount = UInt32(range.count)
        }
        for (entry, key) in escapedKeys { metadata[entry].key = text.unescape(key) }
    }

    private mutating func parseMetadata(_ scanner: inout JSONScanner) throws(MalformedInput) {
        if try scanner.skipNull() {
            warnings.append("__metadata__ is null, but the format requires an object")
            return
        }
        var more = try scanner.openObject()
        while more {
            guard metadata.count < limits.metadataEntries else {
                throw MalformedInput(
                    "there are more than \(limits.metadataEntries) metadata entries", at: scanner.position)
            }
            let start = scanner.position
            let key = try scanner.key()
            let value = try scanner.string()
            metadataBytes += key.range.count + value.range.count
            guard key.range.count <= limits.nameBytes else {
                throw MalformedInput("a metadata key is longer than \(limits.nameBytes) bytes", at: start)
            }
            guard metadataBytes <= limits.metadataBytes else {
                throw MalformedInput("the metadata is longer than \(limits.metadataBytes) bytes", at: start)
            }
            if key.hasEscapes { escapedKeys.append((metadata.count, key)) }
            metadata.append((key.range, value))
            more = try scanner.continueObject()
        }
    }

    private mutating func parseTensor(_ scanner: inout JSONScanner, name: JSONString) throws(MalformedInput) {
        guard name.range.count <= limits.nameBytes else {
            throw MalformedInput(
                "the tensor's name is longer than \(limits.nameBytes) bytes", at: name.range.lowerBound)
        }
        if name.hasEscapes {
            guard !scanner.text(of: name).contains(0) else {
                throw MalformedInput("the tensor's name has a NUL in it", at: name.range.lowerBound)
            }
            escapedNames.append((entries.count, name))
        }
        var dtype: DType?
        var shape: (start: Int, size: ShapeSize)?
        var offsets: Range<Int>?

        var more = try scanner.openObject()
        let start = scanner.position
        while more {
            let fieldStart = scanner.position
            let field = try scanner.key()
            let isRepeated: Bool
            if scanner.matches(field, "dtype") {
                isRepeated = dtype != nil
                dtype = try parseDType(&scanner)
            } else if scanner.matches(field, "shape") {
                isRepeated = shape != nil
                shape = try parseShape(&scanner)
            } else if scanner.matches(field, "data_offsets") {
                isRepeated = offsets != nil
                offsets = try parseOffsets(&scanner)
            } else {
                isRepeated = false
                if unknownFields == 0 {
                    firstUnknownField = "\"\(scanner.excerpt(of: field))\" of tensor \"\(scanner.excerpt(of: name))\""
                }
                unknownFields += 1
                try scanner.skipValue()
            }
            guard !isRepeated else { throw MalformedInput("a field appears twice", at: fieldStart) }
            more = try scanner.continueObject()
        }
        guard let dtype else { throw MalformedInput("the field dtype is missing", at: start) }
        guard let shape else { throw MalformedInput("the field shape is missing", at: start) }
        guard let offsets else { throw MalformedInput("the field data_offsets is missing", at: start) }
        try checkSize(dtype, shape.size, offsets, at: shape.start)
        entries.append(
            SafetensorsHeader.Entry(
                begin: offsets.lowerBound, end: offsets.upperBound, nameStart: UInt32(name.range.lowerBound),
                nameCount: UInt32(name.range.count), shapeStart: UInt32(shape.start), dtype: dtype))
    }

    private func checkSize(
        _ dtype: DType, _ size: ShapeSize, _ offsets: Range<Int>, at start: Int
    ) throws(MalformedInput) {
        let byteCount: Int
        do throws(DType.SizeError) {
            byteCount = try size.byteCount(of: dtype)
        } catch {
            switch error {
            case .overflow: throw MalformedInput("the size of the shape overflows", at: start)
            case .partialByte:
                throw MalformedInput("the \(dtype.rawValue) elements do not fill whole bytes", at: start)
            }
        }
        guard byteCount == offsets.count else {
            throw MalformedInput(
                "dtype and shape do not match data_offsets", at: start, expected: "\(byteCount) bytes",
                found: "\(offsets.count)")
        }
    }

    private func parseDType(_ scanner: inout JSONScanner) throws(MalformedInput) -> DType {
        _ = scanner.peek()
        let start = scanner.position
        let name = try scanner.string()
        if let last = entries.last?.dtype, scanner.matches(name, last.rawValue) { return last }
        for dtype in DType.allCases where dtype.isInSafetensors && scanner.matches(name, dtype.rawValue) {
            return dtype
        }
        throw MalformedInput(
            "the dtype is unknown", at: start, expected: "one of the format's 22 dtypes",
            found: "\"\(scanner.excerpt(of: name))\"")
    }

    private func parseShape(_ scanner: inout JSONScanner) throws(MalformedInput) -> (start: Int, size: ShapeSize) {
        _ = scanner.peek()
        let start = scanner.position
        var size = ShapeSize()
        var rank = 0
        var more = try scanner.openArray()
        while more {
            rank += 1
            guard rank <= limits.rank else {
                throw MalformedInput("the tensor has more than \(limits.rank) dimensions", at: start)
            }
            size.append(try integer(&scanner))
            more = try scanner.continueArray()
        }
        return (start, size)
    }

    private func parseOffsets(_ scanner: inout JSONScanner) throws(MalformedInput) -> Range<Int> {
        _ = scanner.peek()
        let start = scanner.position
        var values: (Int, Int) = (0, 0)
        guard try scanner.openArray() else { throw MalformedInput("data_offsets is empty", at: start) }
        values.0 = try integer(&scanner)
        guard try scanner.continueArray() else { throw MalformedInput("data_offsets has one element", at: start) }
        values.1 = try integer(&scanner)
        guard try !scanner.continueArray() else {
            throw MalformedInput("data_offsets has more than two elements", at: start)
        }
        guard values.0 <= values.1 else { throw MalformedInput("data_offsets run backwards", at: start) }
        guard values.1 <= dataCount else {
            throw MalformedInput(
                "the tensor's data ends after the end of the file, which is truncated or still being written",
                at: start,
                expected: "at least \(values.1) bytes of data", found: "\(dataCount)")
        }
        return values.0..<values.1
    }

    private func integer(_ scanner: inout JSONScanner) throws(MalformedInput) -> Int {
        _ = scanner.peek()
        let start = scanner.position
        guard let value = Int(exactly: try scanner.unsignedInteger()) else {
            throw MalformedInput("the integer does not fit in 63 bits", at: start)
        }
        return value
    }
}
