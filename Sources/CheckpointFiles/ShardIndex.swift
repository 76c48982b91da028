import Bytes
import CheckpointJSON

/// The shard index (`*.index.json`) of a checkpoint, which maps each tensor to its file.
///
/// The format is the one that transformers writes: `{"metadata": {"total_size": n}, "weight_map": {tensor: file}}`.
/// Like a safetensors header, the index is kept as its original text plus a few bytes per tensor. This type performs
/// all checks that do not need the files. ``Checkpoint`` then checks the index against the files.
struct ShardIndex: Sendable {
    fileprivate struct Entry: Sendable {
        var nameStart: UInt32
        var nameCount: UInt32
        var file: UInt32

        init(name: Range<Int>, file: UInt32) {
            nameStart = UInt32(name.lowerBound)
            nameCount = UInt32(name.count)
            self.file = file
        }

        var nameRange: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
    }

    /// The names of the files, relative to the index's directory, in the order in which they first appear.
    let files: [String]
    /// The total size of the tensors in bytes, as recorded in the index; nil if it is not recorded as an integer.
    let totalSize: UInt64?

    private let text: [UInt8]
    private let entries: [Entry]
    private let names: NameTable

    /// The number of tensors that the index lists.
    var count: Int { entries.count }

    /// Creates an index by parsing its JSON text.
    ///
    /// - Throws: `MalformedInput` if the text is not a valid index, a limit is exceeded, a file name is absolute or
    ///   has `.` or `..` as a component, or a tensor is listed twice.
    init(_ text: consuming [UInt8], limits: ReadLimits) throws(MalformedInput) {
        var parser = ShardIndexParser(limits: limits, indexBytes: text.count)
        try parser.parse(text.span)
        parser.unescapeNames(in: &text)
        let entries = parser.entries
        var names = NameTable(capacity: entries.count)
        for id in entries.indices {
            let earlier = names.insert(UInt32(id), text: text) { entries[Int($0)].nameRange }
            guard earlier == nil else {
                throw MalformedInput(
                    "the tensor is listed twice", at: entries[id].nameRange.lowerBound,
                    tensor: excerpt(text[entries[id].nameRange]))
            }
        }
        self.files = parser.files
        self.totalSize = parser.totalSize
        self.text = text
        self.entries = entries
        self.names = names
    }

    /// Returns the position of the entry for the tensor with the given name, compared byte by byte; nil if there is
    /// none.
    func position(of name: ArraySlice<UInt8>) -> Int? {
        names.find(name, text: text) { entries[Int($0)].nameRange }.map(Int.init)
    }

    /// Returns the index in ``files`` of the file that should contain the tensor at `position`.
    func file(at position: Int) -> Int { Int(entries[position].file) }

    func name(at position: Int) -> String { String(decoding: text[entries[position].nameRange], as: UTF8.self) }
}

/// A parser for shard indexes that makes one pass over the text.
private struct ShardIndexParser {
    private(set) var entries: [ShardIndex.Entry] = []
    private(set) var files: [String] = []
    private(set) var totalSize: UInt64?

    private let limits: ReadLimits
    private var fileIndices: [ByteString: UInt32] = [:]
    private var escapedNames: [(entry: Int, name: JSONString)] = []

    init(limits: ReadLimits, indexBytes: Int) {
        self.limits = limits
        let shortest = #""":"a","#.utf8.count
        entries.reserveCapacity(min(limits.tensors, indexBytes / shortest + 1))
    }

    mutating func parse(_ text: Span<UInt8>) throws(MalformedInput) {
        var scanner = JSONScanner(text)
        var keys: Set<ByteString> = []
        var more = try scanner.openObject()
        while more {
            let key = try Self.key(&scanner, after: &keys)
            if scanner.matches(key, "weight_map") {
                try parseWeightMap(&scanner)
            } else if scanner.matches(key, "metadata"), scanner.peek() == UInt8(ascii: "{") {
                try parseMetadata(&scanner)
            } else {
                try scanner.skipValue()
            }
            more = try scanner.continueObject()
        }
        try scanner.end()
        guard keys.contains("weight_map") else {
            throw MalformedInput(
                keys.contains("model_type")
                    ? "the file is a config.json, not a checkpoint: give the path of its directory"
                    : "the JSON document has no weight_map, so it is not a shard index", at: 0)
        }
    }

    /// Reads the next key of an object and adds it to `keys`.
    ///
    /// Throws if `keys` already contains it.
    private static func key(
        _ scanner: inout JSONScanner, after keys: inout Set<ByteString>
    ) throws(MalformedInput) -> JSONString {
        let start = scanner.position
        let key = try scanner.key()
        guard keys.insert(ByteString(String(decoding: scanner.text(of: key), as: UTF8.self))).inserted else {
            throw MalformedInput("\(scanner.excerpt(of: key)) appears twice", at: start)
        }
        return key
    }

    /// Replaces escaped names in the text with their decoded forms.
    mutating func unescapeNames(in text: inout [UInt8]) {
        for (entry, name) in escapedNames {
            entries[entry] = ShardIndex.Entry(name: text.unescape(name), file: entries[entry].file)
        }
    }

    private mutating func parseMetadata(_ scanner: inout JSONScanner) throws(MalformedInput) {
        var keys: Set<ByteString> = []
        var more = try scanner.openObject()
        while more {
            let key = try Self.key(&scanner, after: &keys)
            // Some writers record the size as a float. Use it only if it is an integer.
            var ahead = scanner
            if scanner.matches(key, "total_size") { totalSize = try? ahead.unsignedInteger() }
            try scanner.skipValue()
            more = try scanner.continueObject()
        }
    }

    private mutating func parseWeightMap(_ scanner: inout JSONScanner) throws(MalformedInput) {
        var more = try scanner.openObject()
        while more {
            guard entries.count < limits.tensors else {
                throw MalformedInput("there are more than \(limits.tensors) tensors", at: scanner.position)
            }
            let nameStart = scanner.position
            let name = try scanner.key()
            let start = scanner.position
            let file = try scanner.string()
            guard name.range.count <= limits.nameBytes, file.range.count <= limits.nameBytes else {
                throw MalformedInput("a name is longer than \(limits.nameBytes) bytes", at: nameStart)
            }
            let index: UInt32
            if let last = entries.last?.file, scanner.matches(file, files[Int(last)]) {
                index = last
            } else {
                index = try self.index(of: scanner.text(of: file), at: start)
            }
            if name.hasEscapes { escapedNames.append((entries.count, name)) }
            entries.append(ShardIndex.Entry(name: name.range, file: index))
            more = try scanner.continueObject()
        }
    }

    private mutating func index(of name: [UInt8], at start: Int) throws(MalformedInput) -> UInt32 {
        let file = String(decoding: name, as: UTF8.self)
        if let index = fileIndices[ByteString(file)] { return index }
        let components = name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let isInside = components.allSatisfy {
            !$0.isEmpty && !$0.elementsEqual("..".utf8) && !$0.elementsEqual(".".utf8)
        }
        guard isInside, !name.contains(0) else {
            throw MalformedInput(
                "the index contains a file name that is not allowed", at: start,
                expected: "a relative path without '.' or '..'",
                found: "\"\(file)\"")
        }
        guard files.count < limits.shards else {
            throw MalformedInput("the index names more than \(limits.shards) files", at: start)
        }
        let index = UInt32(files.count)
        files.append(file)
        fileIndices[ByteString(file)] = index
        return index
    }
}
