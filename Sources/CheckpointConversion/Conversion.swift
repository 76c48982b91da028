public import CheckpointFiles
public import CheckpointJSON
public import ModelFamilies

/// A conversion, tensor by tensor, known and checked before any of it is done.
///
///     let target = ConversionOptions.Destination.directory(path: "student", shardByteCount: 5_000_000_000)
///     let conversion = try Conversion(of: teacher, plan: plan, options: ConversionOptions(to: target))
///     for tensor in conversion.tensors { print(tensor.output.name, tensor.output.shape) }
///     let hashes = try conversion.write(replaces: false, threads: 2, planHash: nil, version: "mine")
public struct Conversion: Sendable {
    /// An input checkpoint, by its role in the conversion.
    public enum Part: String, Sendable, CaseIterable {
        /// The checkpoint that is converted.
        case source
        /// The transformer that the student was made of.
        case teacher
        /// An adapter that changes weights.
        case adapter
    }

    /// A tensor of one of the input checkpoints.
    public struct InputTensor: Sendable, Hashable {
        /// The tensor's checkpoint.
        public let part: Part
        /// The tensor's position in ``Checkpoint/tensors``.
        public let position: Int
    }

    /// What is done to an input tensor, besides a cast.
    public struct Steps: Sendable {
        /// The rows that are taken; nil for all.
        public var rows: Range<Int>?
        /// Whether the matrix is transposed.
        public var isTransposed = false
        /// The number that is added to every element, in fp32, before the multiplication.
        public var offset = 0.0
        /// The number that every element is multiplied by, in fp32.
        public var factor = 1.0
        /// The adapter that is merged into the tensor, in fp32.
        public var merge: WeightMerge?

        /// No steps.
        public init() {}

        /// Whether elements change other than by a cast.
        var areComputed: Bool { offset != 0 || factor != 1 || merge != nil }
        /// Whether the tensor is taken as it is, except for a cast.
        var isPlain: Bool { rows == nil && !isTransposed && !areComputed }
    }

    /// What an output tensor is made of.
    public enum Origin: Sendable {
        /// An input tensor, by these steps.
        case tensor(InputTensor, Steps)
        /// The values of a formula.
        case initialised(InitialValues)
    }

    /// An output tensor.
    public struct Tensor: Sendable {
        /// The tensor's name, dtype and shape.
        public let output: OutputTensor
        /// What the tensor is made of.
        public let origin: Origin
    }

    /// What becomes of an input tensor.
    public enum Fate: Sendable, Hashable {
        /// The output tensors at these indices are made of it.
        case used([Int])
        /// It is another name for the tensor at this position, which is used.
        case tied(Int)
        /// Nothing is made of it.
        case dropped(reason: String)
    }

    /// The output tensors.
    public let tensors: [Tensor]
    /// The input checkpoints.
    public let inputs: [Part: ConversionInput]
    /// What becomes of every tensor of each input checkpoint, in the order of its tensors.
    public let fates: [Part: [Fate]]
    /// The keys of the source's metadata that the result lacks, in order: metadata is valid only for the same tensors under the
    /// same names, and only safetensors files can hold it.
    public let omittedMetadata: [ByteString]
    /// The files that are written.
    public let byteLayout: CheckpointByteLayout
    /// The layout of the output names; nil if it is not known.
    public let layout: TensorLayout?
    /// The resulting model; nil if its family is not known.
    public let model: ModelDescription?
    /// The options of the conversion.
    public let options: ConversionOptions
    /// The config.json of the result; nil if it has none.
    public let configuration: [UInt8]?

    /// The name, dtype, shape and place of an input tensor; nil if its checkpoint is not an input.
    public func info(_ tensor: InputTensor) -> TensorInfo? { inputs[tensor.part]?.checkpoint.tensors[tensor.position] }

    /// Whether an output tensor has the bytes of the input tensor that it is made of.
    public func isCopied(_ tensor: Tensor) -> Bool {
        guard case .tensor(let input, let steps) = tensor.origin, let info = info(input) else { return false }
        return steps.isPlain && info.dtype == tensor.output.dtype
    }
}

/// An input checkpoint, and what is known about it.
public struct ConversionInput: Sendable {
    /// The checkpoint.
    public let checkpoint: Checkpoint
    /// Its model; nil if that is not known.
    public let model: ModelDescription?
    /// Its config.json, or the one that was given for it, if any.
    public let configuration: ModelConfiguration?

    /// Combines a checkpoint with what is known about it.
    public init(_ checkpoint: Checkpoint, model: ModelDescription?, configuration: ModelConfiguration?) {
        self.checkpoint = checkpoint
        self.model = model
        self.configuration = configuration
    }

    /// Takes the checkpoint of a recognised model.
    ///
    /// - Throws: ``CheckpointError``: `unsupported` for a config.json alone, `malformed` if the one beside the checkpoint has
    ///   impossible values.
    public init(_ recognised: RecognisedModel) throws(CheckpointError) {
        let model = try recognised.knownDescription
        guard let checkpoint = recognised.checkpoint else {
            throw CheckpointError(
                .unsupported, path: recognised.path, "a config.json alone has no tensors to convert")
        }
        self.init(checkpoint, model: model, configuration: recognised.configuration)
    }

    /// Whether tensor names differ from those of the layout because wrappers put prefixes before them.
    var hasPrefixes: Bool {
        guard let model, let layout = model.layout else { return false }
        return model.bindings.contains { place, binding in
            layout.name(of: place.role, layer: place.layer) != checkpoint.tensors[binding.position].name
        }
    }

    /// The sizes of a tensor in the order of its role; nil if they do not fit the role, or the layout is not known.
    func sizes(_ tensor: TensorInfo, of role: TensorRole) -> [Int]? {
        model?.layout?.sizes(ofStored: tensor.shape, role)
    }
}

/// The options of a conversion.
public struct ConversionOptions: Sendable {
    /// Where to write the result.
    public enum Destination: Sendable {
        /// One file.
        case file(path: String, container: CheckpointByteLayout.Container, isCompressed: Bool)
        /// A model directory of safetensors, in shards of at most this many bytes of tensors.
        case directory(path: String, shardByteCount: Int)

        /// The path of the result.
        public var path: String {
            switch self {
            case .file(let path, _, _), .directory(let path, _): path
            }
        }
    }

    /// Where to write the result.
    public var destination: Destination
    /// The layout of names; nil keeps the source's, or takes Hugging Face's if there is a plan or a teacher.
    public var layout: TensorLayout?
    /// The dtype of all F64, F32, F16 and BF16 tensors; nil keeps each tensor's own.
    public var dtype: DType?
    /// The dtypes of floating-point tensors by role, which override ``dtype``; nil keeps each tensor's own.
    public var roleDTypes: [TensorRole: DType?] = [:]
    /// Whether values beyond a dtype's largest are clamped to it, instead of being an error.
    public var saturates = false
    /// Whether a tensor of this name may be left out even if it has no known use.
    public var mayBeUnused: @Sendable (_ name: String) -> Bool = { _ in false }

    /// Options that keep names and dtypes.
    public init(to destination: Destination) {
        self.destination = destination
    }
}
