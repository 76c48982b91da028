import CheckpointFiles
import ModelFamilies
import RWKVInference

/// What tells the inputs of a run from others, by their content.
///
/// The digest of a model covers every byte of its tensors, their names, types and sizes, and what its equations take from its
/// configuration: sizes, kinds of layers, epsilon, rotation. A retrained model has another digest, and so has one of which a single
/// number changed. That of tokens covers every token. A digest does not cover where files are, when they were written, how tensors are
/// spread over them, or what no equation uses, a tokenizer for example. To make one, all tensors are read once, which takes less time
/// than a step.
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

/// A tensor, and the SHA-256 of its bytes.
struct TensorDigest {
    let name: String
    let dtype: DType
    let shape: [Int]
    let sha256: [UInt8]
}

/// That of a model with these tensors, in whatever order.
func digest(of tensors: [TensorDigest], _ description: ModelDescription) -> String {
    var lines = tensors.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }.map { tensor in
        "\(tensor.name.utf8.count) \(tensor.name) \(tensor.dtype.rawValue) \(tensor.shape) \(hexadecimal(tensor.sha256))"
    }
    lines.append(description.constants)
    return sha256(of: Array(lines.joined(separator: "\n").utf8))
}

extension Checkpoint {
    /// Of all tensors, all of which are read.
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
    /// What equations take from a configuration.
    fileprivate var constants: String {
        let sizes = Dimension.allCases.compactMap { dimension in
            dimensions[dimension].map { "\(dimension.rawValue) \($0)" }
        }
        let equations = ([architecture.teacherFamily ?? ""] + traits).joined(separator: " ")
        let flags = [turnsAttention, stretchesTimeMixing, hasTiedHead]
        return
            "\(architecture.family) \(sizes) \(kinds.map(\.rawValue)) \(epsilon ?? 0) \(rotary?.text ?? "") \(equations) \(flags) "
            + firstValues.rawValue
    }
}
