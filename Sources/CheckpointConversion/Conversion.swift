public import CheckpointFiles
public import CheckpointJSON
public import ModelFamilies

/// A tensor-by-tensor description of a conversion, checked in full before anything is written.
///
///     let target = ConversionOptions.Destination.directory(path: "student", shardByteCount: 5_000_000_000)
///     let conversion = try Conversion(of: teacher, plan: plan, options: ConversionOptions(to: target))
///     for tensor in conversion.tensors { print(tensor.output.name, tensor.output.shape) }
///     let hashes = try conversion.write(replaces: false, threads: 2, planHash: nil, version: "mine")
public struct Conversion: Sendable {
    /// An input checkpoint, by its role in the conversion.
    public enum Part: String, Sendable, CaseIterable {
        /// The checkpoint to convert.
        case source
        /// The transformer that the student was made from.
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

    /// The steps that turn an input tensor into an output tensor, apart from a cast.
    public struct Steps: Sendable {
        /// The rows to take; nil for all.
        public var rows: Range<Int>?
        /// Whether the matrix is transposed.
        public var isTransposed = false
        /// The number to add to every element, in fp32, before the multiplication.
        public var offset = 0.0
        /// The number to multiply every element by, in fp32.
        public var factor = 1.0
        /// The merge of an adapter into the tensor, in fp32.
        public var merge: WeightMerge?

        /// Creates steps that leave the tensor unchanged.
        public init() {}

        /// Whether any step changes the elements' values.
        var areComputed: Bool { offset != 0 || factor != 1 || merge != nil }
        /// Whether the tensor is used unchanged, apart from a cast.
        var isPlain: Bool { rows == nil && !isTransposed && !areComputed }
    }

    /// Where an output tensor's values come from.
    public enum Origin: Sendable {
        /// An input tensor and the steps that are applied to it.
        case tensor(InputTensor, Steps)
        /// Values computed from a formula.
        case initialised(InitialValues)
    }

    /// An output tensor.
    public struct Tensor: Sendable {
        /// The tensor's name, dtype and shape.
        public let output: OutputTensor
        /// Where the tensor's values come from.
        public let origin: Origin
    }

    /// What becomes of an input tensor.
    public enum Fate: Sendable, Hashable {
        /// The output tensors at these indices use the input tensor.
        case used([Int])
        /// The input tensor is another name for the tensor at this position, which is used.
        case tied(Int)
        /// No output tensor uses the input tensor.
        case dropped(reason: String)
    }

    /// The output tensors.
    public let tensors: [Tensor]
    /// The input checkpoints.
    public let inputs: [Part: ConversionInput]
    /// What becomes of each input checkpoint's tensors, in the order of ``Checkpoint/tensors``.
    public let fates: [Part: [Fate]]
    /// The sorted keys of the source's metadata that are not written: metadata is valid only for the same tensors under
    /// the same names, and only safetensors files can hold it.
    public let omittedMetadata: [ByteString]
    /// The layout of the files to write.
    public let byteLayout: CheckpointByteLayout
    /// The naming layout of the output; nil if it is not known.
    public let layout: TensorLayout?
    /// The resulting model; nil if its family is not known.
    public let model: ModelDescription?
    /// The options of the conversion.
    public let options: ConversionOptions
    /// The bytes of the result's config.json; nil if there is none.
    public let configuration: [UInt8]?

    /// Returns an input tensor's name, dtype, shape and location; nil if its checkpoint is not an input.
    public func info(_ tensor: InputTensor) -> TensorInfo? { inputs[tensor.part]?.checkpoint.tensors[tensor.position] }

    /// Returns whether an output tensor is an exact copy of its input tensor.
    public func isCopied(_ tensor: Tensor) -> Bool {
        guard case .tensor(let input, let steps) = tensor.origin, let info = info(input) else { return false }
        return steps.isPlain && info.dtype == tensor.output.dtype
    }
}

/// An input checkpoint, and what is known about it.
public struct ConversionInput: Sendable {
    /// The checkpoint.
    public let checkpoint: Checkpoint
    /// The checkpoint's model; nil if it is not known.
    public let model: ModelDescription?
    /// The checkpoint's config.json, or the one that was given for it; nil if there is none.
    public let configuration: ModelConfiguration?

    /// Creates an input from a checkpoint and what is known about it.
    public init(_ checkpoint: Checkpoint, model: ModelDescription?, configuration: ModelConfiguration?) {
        self.checkpoint = checkpoint
        self.model = model
        self.configuration = configuration
    }

    /// Creates an input from the checkpoint of a recognised model.
    ///
    /// - Throws: ``CheckpointError``: `unsupported` if there is only a config.json, `malformed` if the config.json next
    ///   to the checkpoint has impossible values.
    public init(_ recognised: RecognisedModel) throws(CheckpointError) {
        let model = try recognised.knownDescription
        guard let checkpoint = recognised.checkpoint else {
            throw CheckpointError(
                .unsupported, path: recognised.path, "a config.json alone has no tensors to convert")
        }
        self.init(checkpoint, model: model, configuration: recognised.configuration)
    }

    /// Whether wrappers have prefixed the tensor names, so that they differ from the layout's names.
    var hasPrefixes: Bool {
        guard let model, let layout = model.layout else { return false }
        return model.bindings.contains { place, binding in
            layout.name(of: place.role, layer: place.layer) != checkpoint.tensors[binding.position].name
        }
    }

    /// Returns a tensor's sizes in its role's order; nil if they do not fit the role, or the layout is not known.
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
        /// Safetensors shards in a model directory, each with at most this many bytes unless one tensor is larger.
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
    /// The naming layout; nil keeps the source's, or uses Hugging Face's if there is a plan or a teacher.
    public var layout: TensorLayout?
    /// The output dtype of all F64, F32, F16 and BF16 tensors; nil keeps each tensor's own.
    public var dtype: DType?
    /// The dtypes of floating-point tensors by role, which override ``dtype``; a nil value keeps the tensor's own.
    public var roleDTypes: [TensorRole: DType?] = [:]
    /// Whether values outside a dtype's range are clamped instead of causing an error.
    public var saturates = false
    /// Whether a tensor with this name may be left out when the conversion has no use for it.
    public var mayBeUnused: @Sendable (_ name: String) -> Bool = { _ in false }

    /// Creates options that keep names and dtypes.
    public init(to destination: Destination) {
        self.destination = destination
    }
}
