public import Bytes
public import CheckpointFiles
import CheckpointJSON

/// One or more sequences of token IDs to run a model on.
///
/// A file's extension determines its format: `.json` (an array of integers, or an array of such arrays),
/// `.safetensors` (a tensor named `tokens`, [T] or [B, T]), `.npy` (little-endian integers, [T] or [B, T]), `.u16` and
/// `.u32` (consecutive little-endian integers), and `.bin` next to an `.idx` (Megatron-LM).
public struct TokenSequences: Sendable, Hashable {
    /// One or more sequences, each with at least one token.
    public let sequences: [[Int]]
    /// The path to report in errors.
    public let path: String

    /// The maximum total number of tokens.
    static let limit = 1 << 24

    /// Creates token sequences from arrays of token IDs.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if there are no sequences, a sequence is empty, a token is
    ///   negative, or there are too many tokens.
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

    /// Creates token sequences by reading a token file.
    ///
    /// - Throws: `CheckpointError`: `notFound`, `inputOutput`, `malformed`, `dangerous`, or `unsupported` for an
    ///   unknown extension or a format that cannot be read.
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
                .unsupported, path: path, "unknown token file extension",
                expected: ".json, .safetensors, .npy, .u16, .u32, or .bin next to .idx", found: ending)
        }
    }

    /// Creates token sequences by reading the tensor named `tokens` in a checkpoint.
    ///
    /// - Throws: `CheckpointError`: `inputOutput` or `malformed`.
    public init(contentsOf checkpoint: Checkpoint) throws(CheckpointError) {
        guard let tensor = checkpoint.tensor(named: "tokens") else {
            throw CheckpointError(.malformed, path: checkpoint.path, "no tensor is named \"tokens\"")
        }
        try self.init(try checkpoint.sequences(of: tensor), path: checkpoint.path)
    }

    /// The total number of tokens.
    public var count: Int { sequences.reduce(0) { $0 + $1.count } }

    /// The number of sequences and their common length; nil if their lengths differ.
    public var rectangular: (sequenceCount: Int, length: Int)? {
        let length = sequences[0].count
        return sequences.allSatisfy { $0.count == length } ? (sequences.count, length) : nil
    }

    /// Checks that all tokens are in a model's vocabulary.
    ///
    /// - Parameter vocabulary: the size of the model's vocabulary.
    /// - Throws: `CheckpointError` of category `malformed` if a token is not in the vocabulary.
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
                .malformed, path: path, "there are too many tokens for one run", expected: "at most \(limit)",
                found: "\(count)")
        }
    }

    private static func sequences(_ document: JSONValue, path: String) throws(CheckpointError) -> [[Int]] {
        func wrong(_ found: JSONValue?) -> CheckpointError {
            CheckpointError(
                .malformed, path: path, "the document is not an array of tokens or an array of such arrays",
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

    /// Reads a file, or a range of it, as unsigned little-endian numbers of `size` bytes each.
    static func numbers(
        _ source: any ByteSource, size: Int, in range: Range<Int>? = nil
    ) throws(CheckpointError) -> [Int] {
        let range = range ?? 0..<source.count
        guard range.count % size == 0 else {
            throw CheckpointError(
                .malformed, path: source.path, "the size in bytes is not a whole number of tokens",
                expected: "a multiple of \(size)",
                found: "\(range.count)")
        }
        try check(count: range.count / size, path: source.path)
        let bytes = try source.bytes(range)
        return stride(from: 0, to: bytes.count, by: size).map { bytes.integer(at: $0, count: size) }
    }
}

extension Checkpoint {
    /// Reads the rows of an integer matrix.
    ///
    /// A vector is read as one row.
    fileprivate func sequences(of tensor: TensorInfo) throws(CheckpointError) -> [[Int]] {
        let kinds: [DType: (size: Int, isSigned: Bool)] = [
            .u8: (1, false), .u16: (2, false), .u32: (4, false), .i32: (4, true), .i64: (8, true),
        ]
        guard let kind = kinds[tensor.dtype], (1...2).contains(tensor.shape.count) else {
            throw CheckpointError(
                .malformed, path: files[tensor.file].path, "tokens must be integers of shape [T] or [B, T]",
                tensor: tensor.name,
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

/// Decodes little-endian integers into rows.
///
/// A vector becomes one row.
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
    /// The seed that ``seeded(vocabulary:)`` uses.
    public static let seed = 1

    /// Creates two sequences of 128 uniformly distributed random tokens, which are always the same for a given
    /// vocabulary size.
    public static func seeded(vocabulary: Int) -> TokenSequences {
        var numbers = SplitMix64(seed: UInt64(seed))
        func next() -> Int { Int(numbers.next().multipliedFullWidth(by: UInt64(vocabulary)).high) }
        return TokenSequences(known: (0..<2).map { _ in (0..<128).map { _ in next() } })
    }
}
