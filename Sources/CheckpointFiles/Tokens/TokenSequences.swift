import CheckpointJSON

/// Sequences of token ids, to run models on.
///
/// Files say by their names what they are, as they have no other mark: `.json` (an array of numbers, or of such arrays), `.safetensors`
/// (a tensor called `tokens`, [T] or [B, T]), `.npy` (integers, [T] or [B, T]), `.u16` and `.u32` (numbers one behind the other,
/// little-endian), and `.bin` beside an `.idx` (Megatron's).
public struct TokenSequences: Sendable, Hashable {
    /// The sequences; there is at least one, and none is empty.
    public let sequences: [[Int]]
    /// Where they come from, as errors say it.
    public let path: String

    /// More tokens than a run on one machine takes.
    static let limit = 1 << 24

    /// Sequences that are known.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` where there are no tokens, too many, or a negative one.
    public init(_ sequences: [[Int]], path: String) throws(CheckpointError) {
        guard !sequences.isEmpty, !sequences.contains(where: \.isEmpty) else {
            throw CheckpointError(.malformed, path: path, "a sequence has no tokens")
        }
        if let negative = sequences.lazy.joined().first(where: { $0 < 0 }) {
            throw CheckpointError(.malformed, path: path, "a token is negative", found: "\(negative)")
        }
        try Self.check(count: sequences.reduce(0) { $0 + $1.count }, path: path)
        self.sequences = sequences
        self.path = path
    }

    private init(known sequences: [[Int]]) {
        self.sequences = sequences
        path = "seeded tokens"
    }

    /// Reads a file of tokens.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, `malformed`, or `unsupported` for a file of another kind.
    public init(contentsOf path: String) throws(CheckpointError) {
        let ending = path.utf8.lastIndex(of: UInt8(ascii: ".")).map { String(path[$0...]) } ?? ""
        switch ending {
        case ".json": try self.init(Self.sequences(try JSONValue(contentsOf: path), path: path), path: path)
        case ".safetensors": try self.init(contentsOf: try Checkpoint.open(path))
        case ".npy": try self.init(try NumpyArray(FileSource(path: path)).sequences(), path: path)
        case ".u16": try self.init([try Self.numbers(FileSource(path: path), size: 2)], path: path)
        case ".u32": try self.init([try Self.numbers(FileSource(path: path), size: 4)], path: path)
        case ".bin":
            let index = try FileSource(path: String(path.dropLast(4)) + ".idx")
            try self.init(try MegatronTokens(FileSource(path: path), index: index).sequences(), path: path)
        default:
            throw CheckpointError(
                .unsupported, path: path, "files of tokens are told by their names",
                expected: ".json, .safetensors, .npy, .u16, .u32, or .bin beside .idx", found: ending)
        }
    }

    /// Reads the tensor called `tokens` of a checkpoint.
    ///
    /// - Throws: ``CheckpointError``: `inputOutput`, or `malformed`.
    public init(contentsOf checkpoint: Checkpoint) throws(CheckpointError) {
        guard let tensor = checkpoint.tensor(named: "tokens") else {
            throw CheckpointError(.malformed, path: checkpoint.path, "there is no tensor called \"tokens\"")
        }
        try self.init(try checkpoint.sequences(of: tensor), path: checkpoint.path)
    }

    /// How many tokens there are in all.
    public var count: Int { sequences.reduce(0) { $0 + $1.count } }

    /// How many sequences there are, and their length; nil where they have different ones.
    public var rectangular: (sequenceCount: Int, length: Int)? {
        let length = sequences[0].count
        return sequences.allSatisfy { $0.count == length } ? (sequences.count, length) : nil
    }

    /// Holds all tokens against the vocabulary of a model.
    ///
    /// - Parameter vocabulary: how many tokens the model has.
    /// - Throws: ``CheckpointError`` of category `malformed`.
    public func check(vocabulary: Int) throws(CheckpointError) {
        for (number, sequence) in sequences.enumerated() {
            guard let place = sequence.firstIndex(where: { $0 >= vocabulary }) else { continue }
            throw CheckpointError(
                .malformed, path: path,
                "token \(place) of sequence \(number) is not in the model's vocabulary",
                expected: "0 to \(vocabulary - 1)", found: "\(sequence[place])")
        }
    }

    static func check(count: Int, path: String) throws(CheckpointError) {
        guard count <= limit else {
            throw CheckpointError(
                .malformed, path: path, "there are too many tokens for one run", expected: "\(limit) at the most",
                found: "\(count)")
        }
    }

    private static func sequences(_ document: JSONValue, path: String) throws(CheckpointError) -> [[Int]] {
        func wrong(_ found: JSONValue?) -> CheckpointError {
            CheckpointError(
                .malformed, path: path, "it is not an array of tokens, nor one of such arrays",
                found: found?.description)
        }
        guard let elements = document.array, let first = elements.first else { throw wrong(document) }
        let rows = first.array == nil ? [document] : elements
        var sequences: [[Int]] = []
        for row in rows {
            guard let tokens = row.array else { throw wrong(row) }
            let numbers = tokens.compactMap(\.integer)
            guard numbers.count == tokens.count else { throw wrong(tokens.first { $0.integer == nil }) }
            sequences.append(numbers)
        }
        return sequences
    }

    /// Unsigned little-endian numbers that fill a file, or a part of it.
    static func numbers(
        _ source: any ByteSource, size: Int, in range: Range<Int>? = nil
    ) throws(CheckpointError) -> [Int] {
        let range = range ?? 0..<source.count
        guard range.count % size == 0 else {
            throw CheckpointError(
                .malformed, path: source.path, "its bytes are not whole tokens", expected: "a multiple of \(size)",
                found: "\(range.count)")
        }
        try check(count: range.count / size, path: source.path)
        let bytes = try source.bytes(range)
        return stride(from: 0, to: bytes.count, by: size).map { bytes.integer(at: $0, count: size) }
    }
}

extension Checkpoint {
    /// The rows of a matrix of integers, or the one that a vector is.
    fileprivate func sequences(of tensor: TensorInfo) throws(CheckpointError) -> [[Int]] {
        let kinds: [DType: (size: Int, isSigned: Bool)] = [
            .u8: (1, false), .u16: (2, false), .u32: (4, false), .i32: (4, true), .i64: (8, true),
        ]
        guard let kind = kinds[tensor.dtype], (1...2).contains(tensor.shape.count) else {
            throw CheckpointError(
                .malformed, path: files[tensor.file].path, "tokens are integers, [T] or [B, T]", tensor: tensor.name,
                found: "\(tensor.dtype.rawValue) \(tensor.shape)")
        }
        try TokenSequences.check(count: tensor.elementCount, path: files[tensor.file].path)
        var bytes = [UInt8](repeating: 0, count: tensor.byteCount)
        var numbers = bytes.mutableSpan
        var span = numbers.mutableBytes
        try read(tensor, at: 0, into: &span)
        return rows(of: bytes, size: kind.size, isSigned: kind.isSigned, shape: tensor.shape)
    }
}

/// Integers row by row; of a vector one row.
func rows(of bytes: [UInt8], size: Int, isSigned: Bool, shape: [Int]) -> [[Int]] {
    let numbers = stride(from: 0, to: bytes.count, by: size).map { start in
        let bits = bytes.bits(at: start, count: size)
        let shift = UInt64(64 - 8 * size)
        return isSigned ? Int(Int64(bitPattern: bits << shift) >> Int64(shift)) : Int(clamping: bits)
    }
    guard shape.count == 2 else { return [numbers] }
    return (0..<shape[0]).map { Array(numbers[$0 * shape[1]..<($0 + 1) * shape[1]]) }
}

extension TokenSequences {
    /// What ``seeded(vocabulary:)`` begins with.
    public static let seed = 1

    /// Two sequences of 128 tokens, each as likely as any other: always the same for a vocabulary.
    public static func seeded(vocabulary: Int) -> TokenSequences {
        var numbers = SplitMix64(seed: UInt64(seed))
        func next() -> Int { Int(numbers.next().multipliedFullWidth(by: UInt64(vocabulary)).high) }
        return TokenSequences(known: (0..<2).map { _ in (0..<128).map { _ in next() } })
    }
}
