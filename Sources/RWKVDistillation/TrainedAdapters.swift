import Bytes
import CheckpointFiles
import CheckpointJSON
public import ModelFamilies
import RWKVLayers
import RWKVNumerics

/// Adapters that are trained instead of the projections of time mixing and attention.
///
/// Those projections are the receptance, key, value and output projections of time mixing, and the query, key, value and output
/// projections of attention.
public struct TrainedAdapters: Sendable, Hashable {
    /// The kind of adapter, which determines how the adapted weight is computed.
    public let kind: Adapter.Kind
    /// The rank, which is also used as alpha, so that the LoRA scale is 1.
    public let rank: Int
    /// The seed for initialising the matrix A.
    public var seed: UInt64

    /// Creates adapters of the given kind and rank.
    ///
    /// - Parameters:
    ///   - kind: the kind of adapter.
    ///   - rank: the rank, at least 1.
    ///   - seed: the seed for initialising the matrix A.
    public init(_ kind: Adapter.Kind, rank: Int, seed: UInt64 = 1) {
        (self.kind, self.rank, self.seed) = (kind, rank, seed)
    }

    /// The roles of the weights that can have adapters.
    static let roles: Set<TensorRole> = [
        .receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight, .queryWeight, .keyWeight,
        .valueWeight, .outputWeight,
    ]

    private static func module(of tensor: TensorInfo) -> Substring {
        tensor.name.dropping(suffix: ".weight") ?? tensor.name[...]
    }

    /// Returns the name of the tensor that contains a part of a weight's adapter.
    static func name(of part: Adapter.Part, _ tensor: TensorInfo) -> String {
        Adapter.name(of: part, module: module(of: tensor))
    }

    /// Returns the shape of a factor as stored in a file.
    func shape<Element: Real>(of factor: WeightAdapter<Element>.Factor) -> [Int] {
        switch factor.part {
        case .down, .up: [factor.values.rows, factor.values.columns]
        case .magnitude: [factor.values.count]
        case .bone: [factor.values.rows / rank, rank, rank]
        }
    }

    /// Creates an adapter that initially does not change its weight; throws `unsupported` if the weight cannot have
    /// such an adapter.
    func adapter<Element: Real>(
        of base: Matrix<Element>, _ tensor: TensorInfo, in checkpoint: Checkpoint
    ) throws(CheckpointError) -> WeightAdapter<Element> {
        let fits =
            kind == .bone
            ? base.rows % rank == 0 && base.columns % rank == 0 : rank <= min(base.rows, base.columns)
        guard fits else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path, "an adapter of rank \(rank) does not fit this weight",
                tensor: tensor.name,
                expected: kind == .bone ? "a rank that divides both sizes" : "a rank no greater than the smaller size",
                found: "\(tensor.shape)")
        }
        if kind == .dora, let row = (0..<base.rows).first(where: { base.row($0).allSatisfy { $0 == 0 } }) {
            throw CheckpointError(
                .unsupported, path: checkpoint.path, "DoRA scales rows, and row \(row) is zero", tensor: tensor.name,
                advice: "use LoRA instead")
        }
        return WeightAdapter(of: base, kind, rank: rank) {
            var random = SplitMix64(seed: seed, name: Self.name(of: .down, tensor))
            // As in peft, A is initialised with kaiming_uniform_ and a = sqrt(5).
            let bound = 1 / Double(base.columns).squareRoot()
            return (0..<rank * base.columns).map { _ in Element(Float(random.uniform() * bound)) }
        }
    }
}

// Adapters are saved in peft's format, except that Bone adapters are saved in RWKVInside's format, because peft's Bone
// is different.
extension TrainedAdapters {
    static var fileName: String { "adapter/adapter_model.safetensors" }
    static var configurationName: String { "adapter/adapter_config.json" }
    /// The entries of a run's directory that belong to adapters.
    static var files: [String] { ["adapter/", fileName, configurationName] }

    /// Returns the contents of adapter_config.json for the given parameters; nil for Bone, which does not use this
    /// file.
    func configuration<Element: Real>(of parameters: [TrainedModel<Element>.Parameter]) -> [UInt8]? {
        guard kind != .bone else { return nil }
        let modules = Set(
            parameters.filter(\.isOfAdapter).compactMap { parameter in
                Adapter.split(parameter.name).map { Adapter.lastPart(ofModule: $0.module) }
            })
        return try? ByteOutput.bytes { output in
            try JSONWriter.document(to: output) { json in
                json.member("peft_type", "LORA")
                json.member("r", rank)
                json.member("lora_alpha", rank)
                json.member("use_dora", kind == .dora)
                json.member("target_modules", modules.sorted())
            }
        }
    }
}
