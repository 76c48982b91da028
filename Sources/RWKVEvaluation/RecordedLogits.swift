public import Bytes
import CRWKVKernels
public import CheckpointFiles
import ModelFamilies
public import RWKVInference
public import RWKVNumerics
public import TokenFiles

/// Recorded logits, with the tokens that they were computed for.
///
/// Both are tensors in a safetensors file, written by this tool or another: `logits`, [B, T, V], and `tokens`, [B, T].
public struct RecordedLogits: Sendable {
    /// The path of the file that contains the logits.
    public let path: String
    /// The tokens that the logits were recorded for.
    public let tokens: TokenSequences
    /// The vocabulary size (V).
    public let vocabulary: Int
    /// The dtype of the recorded logits.
    public let dtype: DType
    /// The dtype of most of the model's weights; nil if the file does not record it.
    public let weights: DType?

    private let checkpoint: Checkpoint
    private let tensor: TensorInfo

    /// Opens the recorded logits in a checkpoint; returns nil if the tensor `logits` or `tokens` is missing.
    ///
    /// - Throws: `CheckpointError`: `inputOutput`, or `malformed` if the logits do not match the tokens.
    public init?(_ checkpoint: Checkpoint) throws(CheckpointError) {
        guard let tensor = checkpoint.tensor(named: "logits"), checkpoint.tensor(named: "tokens") != nil else {
            return nil
        }
        path = checkpoint.path
        self.checkpoint = checkpoint
        self.tensor = tensor
        dtype = tensor.dtype
        tokens = try TokenSequences(contentsOf: checkpoint)
        let (count, length) = tokens.rectangular ?? (0, 0)
        guard tensor.shape.count == 3, tensor.shape[0] == count, tensor.shape[1] == length, tensor.shape[2] > 0,
            [.f64, .f32, .f16, .bf16].contains(tensor.dtype)
        else {
            throw CheckpointError(
                .malformed, path: path, "the logits do not match the tokens", tensor: tensor.name,
                expected: "floating-point [\(count), \(length), V]", found: "\(tensor.dtype.rawValue) \(tensor.shape)")
        }
        vocabulary = tensor.shape[2]
        weights = checkpoint.metadata[Self.weightsKey].flatMap { DType(ByteString($0)) }
    }

    /// Reads the logits of one token, and converts them to doubles.
    ///
    /// - Throws: `CheckpointError` of category `inputOutput`.
    func row(
        sequence: Int, position: Int, into row: UnsafeMutableBufferPointer<Double>
    ) throws(CheckpointError) {
        let size = tensor.dtype.bitWidth / 8 * vocabulary
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        defer { bytes.deallocate() }
        var span = MutableRawSpan(_unsafeBytes: bytes)
        try checkpoint.read(tensor, at: (sequence * tensor.shape[1] + position) * size, into: &span)
        guard let element = tensor.dtype.kernelElement else { return }
        rwkv_kernels_for(rwkv_best_instruction_set()).pointee.to_doubles(
            element, bytes.baseAddress, vocabulary, row.baseAddress)
    }

    private static let weightsKey: ByteString = "weights"

    /// Runs a model, and records its logits in fp32.
    ///
    /// - Parameters:
    ///   - model: the model to run.
    ///   - tokens: the sequences to run the model on, which must have equal length.
    ///   - path: the path of the file to write.
    ///   - replaces: whether to replace an existing file.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that receives the number of tokens processed, and that the caller can use to cancel the
    ///     work.
    /// - Throws: `CheckpointError`: `malformed` if a token is outside the vocabulary, `unsupported` if the sequences
    ///   differ in length or the logits are too large for a file, or the errors of
    ///   `Model.run(_:_:_:progress:receive:)` and of writing the file.
    public static func record(
        _ model: Model<Float>, _ tokens: TokenSequences, to path: String, replaces: Bool, _ kernels: Kernels<Float>,
        progress: WorkProgress = WorkProgress()
    ) throws {
        try tokens.check(vocabulary: model.vocabulary)
        guard let (count, length) = tokens.rectangular else {
            throw CheckpointError(
                .unsupported, path: tokens.path,
                "logits are recorded as one tensor, so all sequences must have the same length")
        }
        let file = try UnfinishedFile(path: path, replaces: replaces)
        guard let ids = try? OutputTensor(name: "tokens", dtype: .i64, shape: [count, length]),
            let rows = try? OutputTensor(name: "logits", dtype: .f32, shape: [count, length, model.vocabulary])
        else { throw CheckpointError(.unsupported, path: path, "there are more logits than fit into a file") }
        let weights = model.mostCommonDType.map { [weightsKey: $0.rawValue] } ?? [:]
        let byteLayout = try CheckpointByteLayout([ids, rows], container: .safetensors, name: path, metadata: weights)
        let writer = try CheckpointWriter(byteLayout, into: file, isCompressed: false)
        let numbers = UnsafeMutableBufferPointer<Int64>.allocate(capacity: count * length)
        defer { numbers.deallocate() }
        _ = numbers.initialize(from: tokens.sequences.joined().lazy.map { Int64($0).littleEndian })
        var output = try writer.begin(0)
        try output.append(UnsafeRawBufferPointer(numbers))
        _ = output.finish()
        output = try writer.begin(1)
        for sequence in tokens.sequences {
            var state = model.start(length: length)
            try model.run(sequence, &state, kernels, progress: progress) { _, logits in
                try output.append(logits)
                progress.advance(by: logits.rows, of: count * length)
            }
        }
        _ = output.finish()
        try writer.finish()
        try file.commit()
    }
}

extension Model {
    /// The dtype of most of the model's weights; nil if the checkpoint has no tensors.
    var mostCommonDType: DType? {
        let totals = checkpoint.dtypeTotals
        return totals.max { ($0.parameterCount, $1.dtype.rawValue) < ($1.parameterCount, $0.dtype.rawValue) }?.dtype
    }
}

extension TensorOutput {
    /// Appends the numbers of a matrix.
    package mutating func append(_ matrix: Matrix<Float>) throws(CheckpointError) {
        try matrix.withNumbers { numbers throws(CheckpointError) in try append(UnsafeRawBufferPointer(numbers)) }
    }
}
