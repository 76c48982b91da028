import Bytes
import CheckpointFiles
import ModelFamilies
import RWKVInference
import TokenFiles

/// Digests that identify the inputs of a run by their content.
///
/// The digest of a model covers the bytes, names, dtypes and shapes of all tensors, and the values in the configuration
/// that the equations use, such as dimensions, layer kinds, epsilon and RoPE settings. Changing a single number changes
/// the digest. The digest of tokens covers every token. The digests do not depend on paths, timestamps, how tensors are
/// split into files, or anything that the equations do not use, such as a tokenizer. Computing the digest of a model
/// reads all tensors once.
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

/// The name, dtype and shape of a tensor, and the SHA-256 of its bytes.
struct TensorDigest {
    let name: String
    let dtype: DType
    let shape: [Int]
    let sha256: [UInt8]
}

/// Returns the digest of a model with the given tensors; the order of the tensors does not matter.
func digest(of tensors: [TensorDigest], _ description: ModelDescription) -> String {
    var lines = tensors.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }.map { tensor in
        "\(tensor.name.utf8.count) \(tensor.name) \(tensor.dtype.rawValue) \(tensor.shape) \(hexadecimal(tensor.sha256))"
    }
    lines.append(description.constants)
    return sha256(of: Array(lines.joined(separator: "\n").utf8))
}

extension Checkpoint {
    /// Computes the digests of all tensors, which requires reading all of their bytes.
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
    /// The values in the configuration that the equations use, as text.
    fileprivate var constants: String {
        let sizes = ModelDimension.allCases.compactMap { dimension in
            dimensions[dimension].map { "\(dimension.rawValue) \($0)" }
        }
        let equations = ([architecture.teacherFamily ?? ""] + differencesFromLlama).joined(separator: " ")
        let flags = [attentionUsesRoPE, scalesTimeMixingRoPE, hasTiedHead]
        return
            "\(architecture.family) \(sizes) \(kinds.map(\.rawValue)) \(epsilon ?? 0) \(rotary?.text ?? "") \(equations) \(flags) "
            + firstValues.rawValue
    }
}
