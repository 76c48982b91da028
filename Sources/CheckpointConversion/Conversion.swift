public import CheckpointFiles
public import CheckpointJSON
public import ModelFamilies

/// What a conversion does, tensor by tensor: known and checked before any of it is done.
///
///     let target = ConversionOptions.Destination.directory(path: "student", shardByteCount: 5_000_000_000)
///     let conversion = try Conversion(of: teacher, plan: plan, options: ConversionOptions(to: target))
///     for tensor in conversion.tensors { print(tensor.output.name, tensor.output.shape) }
///     let hashes = try conversion.write(replaces: false, threads: 2, planHash: nil, version: "mine")
public struct Conversion: Sendable {
    /// A checkpoint that tensors are taken from, by what it is to the conversion.
    public enum Part: String, Sendable, CaseIterable {
        /// What is converted.
        case source
        /// The transformer that a student was made of.
        case teacher
        /// Changes to weights.
        case adapter
    }

    /// A tensor of one of the checkpoints.
    public struct InputTensor: Sendable, Hashable {
        /// The checkpoint.
        public let part: Part
        /// Its position in ``Checkpoint/tensors``.
        public let position: Int
    }

    /// What is done to a tensor on its way, besides a cast.
    public struct Steps: Sendable {
        /// The rows that are taken; nil for all.
        public var rows: Range<Int>?
        /// Whether rows become columns.
        public var isTransposed = false
        /// What is added to all elements, in fp32, before they are multiplied.
        public var offset = 0.0
        /// What all elements are multiplied with, in fp32.
        public var factor = 1.0
        /// An adapter that is merged into it, in fp32.
        public var merge: WeightMerge?

        /// Nothing.
        public init() {}

        /// Whether elements change beyond the type that they have.
        var areComputed: Bool { offset != 0 || factor != 1 || merge != nil }
        /// Whether the tensor is taken as it is.
        var isPlain: Bool { rows == nil && !isTransposed && !areComputed }
    }

    /// Where a tensor comes from.
    public enum Origin: Sendable {
        /// Another tensor.
        case tensor(InputTensor, Steps)
        /// A formula.
        case initialised(InitialValues)
    }

    /// A tensor that is made.
    public struct Tensor: Sendable {
        /// Its name, type and shape.
        public let output: OutputTensor
        /// Where it comes from.
        public let origin: Origin
    }

    /// What becomes of a tensor of a checkpoint.
    public enum Fate: Sendable, Hashable {
        /// These of ``tensors`` are made of it.
        case used([Int])
        /// It is another name for the tensor at this position, which is used.
        case tied(Int)
        /// It has no place in what is made.
        case dropped(reason: String)
    }

    /// What is made.
    public let tensors: [Tensor]
    /// The checkpoints.
    public let inputs: [Part: ConversionInput]
    /// What becomes of every tensor of each.
    public let fates: [Part: [Fate]]
    /// The keys of what the source says of itself and the result does not, in order: it holds for the same tensors under the same
    /// names, and only safetensors files have a place for it.
    public let omittedMetadata: [ByteString]
    /// The files that are written.
    public let outline: CheckpointOutline
    /// The layout of their names; nil where that is not known.
    public let layout: TensorLayout?
    /// What is made, where it is a model of a known family.
    public let model: ModelDescription?
    /// How it is asked for.
    public let options: ConversionOptions
    /// The config.json that goes with it, where one does.
    public let configuration: [UInt8]?

    /// The tensor that stands at a place of a checkpoint.
    public func info(_ tensor: InputTensor) -> TensorInfo? { inputs[tensor.part]?.checkpoint.tensors[tensor.position] }

    /// Whether the bytes of a tensor are those of the one it comes from.
    public func isCopied(_ tensor: Tensor) -> Bool {
        guard case .tensor(let input, let steps) = tensor.origin, let info = info(input) else { return false }
        return steps.isPlain && info.dtype == tensor.output.dtype
    }
}

/// A checkpoint, and what is known of it.
public struct ConversionInput: Sendable {
    /// Its tensors.
    public let checkpoint: Checkpoint
    /// What it is, where that is known.
    public let model: ModelDescription?
    /// Its config.json, or the one that was given for it.
    public let configuration: ModelConfiguration?

    /// A checkpoint, and what is known of it.
    public init(_ checkpoint: Checkpoint, model: ModelDescription?, configuration: ModelConfiguration?) {
        self.checkpoint = checkpoint
        self.model = model
        self.configuration = configuration
    }

    /// A checkpoint that was recognised.
    ///
    /// - Throws: ``CheckpointError``: `unsupported` for a config.json alone, `malformed` where the one beside the checkpoint has
    ///   impossible values.
    public init(_ recognised: RecognisedModel) throws(CheckpointError) {
        let model = try recognised.knownDescription
        guard let checkpoint = recognised.checkpoint else {
            throw CheckpointError(
                .unsupported, path: recognised.path, "a config.json alone has no tensors to convert")
        }
        self.init(checkpoint, model: model, configuration: recognised.configuration)
    }

    /// Whether names of its tensors are not those of its layout alone, because wrappers put prefixes before them.
    var hasPrefixes: Bool {
        guard let model, let layout = model.layout else { return false }
        return model.bindings.contains { place, binding in
            layout.name(of: place.role, layer: place.layer) != checkpoint.tensors[binding.position].name
        }
    }

    /// How tensors are stored, and the sizes of one by its role.
    func sizes(_ tensor: TensorInfo, of role: TensorRole) -> [Int]? {
        model?.layout?.sizes(ofStored: tensor.shape, role)
    }
}

/// What is asked of a conversion.
public struct ConversionOptions: Sendable {
    /// Where the result goes.
    public enum Destination: Sendable {
        /// A file.
        case file(path: String, container: CheckpointOutline.Container, isCompressed: Bool)
        /// A model directory of safetensors, in shards of at most so many bytes.
        case directory(path: String, shardByteCount: Int)

        /// Where it will stand.
        public var path: String {
            switch self {
            case .file(let path, _, _), .directory(let path, _): path
            }
        }
    }

    /// Where the result goes.
    public var destination: Destination
    /// How tensors are to be named; nil: as they are, or as Hugging Face's for what is put together of several checkpoints.
    public var layout: TensorLayout?
    /// The type of all floating-point tensors; nil: as they are.
    public var dtype: DType?
    /// The types of those of some roles; nil: as they are.
    public var roleDTypes: [TensorRole: DType?] = [:]
    /// Whether what is beyond a type's largest value becomes that value, instead of an error.
    public var saturates = false
    /// Whether a tensor of this name may be left out though nothing is known of it.
    public var mayBeUnused: @Sendable (_ name: String) -> Bool = { _ in false }

    /// A conversion that keeps names and types.
    public init(to destination: Destination) {
        self.destination = destination
    }
}
