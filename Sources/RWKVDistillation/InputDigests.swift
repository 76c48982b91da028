import CheckpointFiles
import ModelFamilies
import RWKVInference
import TokenFiles

/// Digests that identify the inputs of a run by content.
///
/// A model's digest covers the bytes, names, dtypes and shapes of all tensors, and the values that the equations take
/// from the configuration, such as sizes, layer kinds, epsilon and RoPE. Changing a single number changes the digest.
/// The digest of tokens covers every token. Digests do not cover paths, timestamps, how tensors are split into files,
/// or anything that the equations do not use, such as a tokenizer. Computing a model's digest reads all tensors once,
/// which takes less time than a step.
struct InputDigests {
    let teacher: String
    let tokens: String

    init(
        _ distillation: Distillation<Float>, threads: Int, progress: WorkProgress
    ) throws(CheckpointError) {
        let model = distillation.teacher
        teacher = digest(
            of: try model.checkpoint.digests(threads: threads, progress: progress), model.description)
        tokens = distillation.tokens.digest
    }
}

/// A tensor's name, dtype and shape, and the SHA-256 of its bytes.
struct TensorDigest {
    let name: String
    let dtype: DType
    let shape: [Int]
    let sha256: [UInt8]
}

/// Returns the digest of a model with the given tensors, whose order does not matter.
func digest(of tensors: [TensorDigest], _ description: ModelDescription) -> String {
    var lines = tensors.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }.map { tensor in
        "\(tensor.name.utf8.count) \(tensor.name) \(tensor.dtype.rawValue) \(tensor.shape) \(hexadecimal(tensor.sha256))"
    }
    lines.append(description.constants)
    return sha256(of: Array(lines.joined(separator: "\n").utf8))
}

extension Checkpoint {
    /// Returns the digests of all tensors, reading each tensor completely.
    func digests(threads: Int, progress: WorkProgress) throws(CheckpointError) -> [TensorDigest] {
        let tensors = Array(tensors)
        let scans = try scan(
            tensors, statistics: false, sha256: true, threads: threads, progress: WorkProgress(partOf: progress))
        return zip(tensors, scans).map { tensor, scan in
            TensorDigest(name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, sha256: scan.sha256 ?? [])
        }
    }
}

extension TokenSequences {
    fileprivate var digest: String {
        var bytes: [UInt8] = []
        for sequence in sequences {
            ([sequence.count] + sequence).withUnsafeBytes { bytes.append(contentsOf: $0) }
        }
        return sha256(of: bytes)
    }
}

extension ModelDescription {
    /// The values that the equations take from the configuration, as text.
    fileprivate var constants: String {
        let sizes = Dimension.allCases.compactMap { dimension in
            dimensions[dimension].map { "\(dimension.rawValue) \($0)" }
        }
        let equations = ([architecture.teacherFamily ?? ""] + differencesFromLlama).joined(separator: " ")
        let flags = [attentionUsesRoPE, scalesTimeMixingRoPE, hasTiedHead]
        return
            "\(architecture.family) \(sizes) \(kinds.map(\.rawValue)) \(epsilon ?? 0) \(rotary?.text ?? "") \(equations) \(flags) "
            + firstValues.rawValue
    }
}
