public import Bytes
public import CheckpointFiles
public import ModelFamilies

/// A description of a conversion, tensor by tensor, which is checked in full before anything is written.
///
///     let target = ConversionOptions.Destination.directory(path: "student", shardByteCount: 5_000_000_000)
///     let conversion = try Conversion(of: teacher, plan: plan, options: ConversionOptions(to: target))
///     for tensor in conversion.tensors { print(tensor.output.name, tensor.output.shape) }
///     let hashes = try conversion.write(replaces: false, threads: 2, planHash: nil, version: "mine")
public struct Conversion: Sendable {
    /// The role of an input checkpoint in a conversion.
    public enum Part: String, Sendable, CaseIterable {
        /// The checkpoint to convert.
        case source
        /// The transformer that the student was made from.
        case teacher
        /// The adapter that changes the source's weights.
        case adapter
    }

    /// A tensor of one of the input checkpoints.
    public struct InputTensor: Sendable, Hashable {
        /// The checkpoint that contains the tensor.
        public let part: Part
        /// The tensor's position in `Checkpoint.tensors`.
        public let position: Int
    }

    /// The steps that turn an input tensor into an output tensor, not including a cast.
    public struct Steps: Sendable {
        /// The rows to take; nil to take all rows.
        public var rows: Range<Int>?
        /// Whether to transpose the matrix.
        public var isTransposed = false
        /// The order of the blocks of rows or columns, after transposing; nil to leave the order unchanged.
        public var blocks: BlockOrder?
        /// The input tensors whose elements follow, after the same steps.
        public var followers: [InputTensor] = []
        /// The number to add to every element in fp32, before the multiplication.
        public var offset = 0.0
        /// The number to multiply every element by in fp32.
        public var factor = 1.0
        /// The merge of an adapter into the tensor in fp32; nil if there is none.
        public var merge: WeightMerge?

        /// Creates steps that leave the tensor unchanged.
        public init() {}

        /// Whether any step changes the elements' values.
        var areComputed: Bool { offset != 0 || factor != 1 || merge != nil }
        /// Whether the tensor is used without changes other than a cast.
        var isPlain: Bool {
            rows == nil && !isTransposed && blocks == nil && followers.isEmpty && !areComputed
        }
    }

    /// A new order of a matrix's equally large blocks of rows or columns.
    public struct BlockOrder: Sendable {
        /// For each block of the output, the index of the block in the input.
        public let order: [Int]
        /// Whether the blocks consist of columns instead of rows.
        public let isOfColumns: Bool
    }

    /// The origin of an output tensor's values.
    public enum Origin: Sendable {
        /// An input tensor and the steps that are applied to it.
        case tensor(InputTensor, Steps)
        /// Values that are computed from a formula.
        case initialised(InitialValues)
    }

    /// An output tensor.
    public struct Tensor: Sendable {
        /// The tensor's name, dtype and shape.
        public let output: OutputTensor
        /// The origin of the tensor's values.
        public let origin: Origin
    }

    /// The way in which a conversion uses an input tensor.
    public enum Fate: Sendable, Hashable {
        /// The input tensor is used by the output tensors at these indices.
        case used([Int])
        /// The input tensor has the same elements as the input tensor at this position, which is used.
        case tied(Int)
        /// The input tensor is not used, for the given reason.
        case dropped(reason: String)
    }

    /// The output tensors.
    public let tensors: [Tensor]
    /// The input checkpoints, keyed by their roles.
    public let inputs: [Part: ConversionInput]
    /// The fates of each input checkpoint's tensors, in the order of `Checkpoint.tensors`.
    public let fates: [Part: [Fate]]
    /// The sorted keys of the source's metadata that are not written.
    ///
    /// Metadata is written only if the tensors keep their names, and only to safetensors files. A "format" of "pt" is
    /// never included, because it is the default.
    public let omittedMetadata: [ByteString]
    /// The layout of the tensors' bytes in the files to write.
    public let byteLayout: CheckpointByteLayout
    /// The layout that names the output tensors; nil if it is not known.
    public let layout: TensorLayout?
    /// The resulting model; nil if its family is not known.
    public let model: ModelDescription?
    /// The options of the conversion.
    public let options: ConversionOptions
    /// The bytes of the result's config.json; nil if there is none.
    public let configuration: [UInt8]?

    /// Returns the name, dtype, shape and location of an input tensor; nil if its checkpoint is not an input.
    public func info(_ tensor: InputTensor) -> TensorInfo? { inputs[tensor.part]?.checkpoint.tensors[tensor.position] }

    /// Returns whether an output tensor is an exact copy of its input tensor.
    public func isCopied(_ tensor: Tensor) -> Bool {
        guard case .tensor(let input, let steps) = tensor.origin, let info = info(input) else { return false }
        return steps.isPlain && info.dtype == tensor.output.dtype
    }
}

/// An input checkpoint with its model and its config.json, if they are known.
public struct ConversionInput: Sendable {
    /// The checkpoint.
    public let checkpoint: Checkpoint
    /// The checkpoint's model; nil if it is not known.
    public let model: ModelDescription?
    /// The config.json next to the checkpoint, or the one that replaces it; nil if there is none.
    public let configuration: ModelConfiguration?

    /// Creates an input from a checkpoint, its model and its config.json.
    public init(_ checkpoint: Checkpoint, model: ModelDescription?, configuration: ModelConfiguration?) {
        self.checkpoint = checkpoint
        self.model = model
        self.configuration = configuration
    }

    /// Creates an input from a recognised model.
    ///
    /// - Throws: `CheckpointError`: `unsupported` if the model has only a config.json and no checkpoint, or
    ///   `malformed` if the config.json next to the checkpoint has invalid values.
    public init(_ recognised: RecognisedModel) throws(CheckpointError) {
        let model = try recognised.knownDescription
        guard let checkpoint = recognised.checkpoint else {
            throw CheckpointError(
                .unsupported, path: recognised.path, "a config.json alone has no tensors to convert")
        }
        self.init(checkpoint, model: model, configuration: recognised.configuration)
    }

    /// Whether the tensor names differ from the layout's names because wrappers have added a prefix.
    var hasPrefixes: Bool {
        guard let model, let layout = model.layout else { return false }
        return model.bindings.contains { place, binding in
            layout.name(of: place.role, layer: place.layer) != checkpoint.tensors[binding.position].name
        }
    }

    /// Returns a tensor's dimensions in the order that its role defines; nil if they do not fit the role or the layout
    /// is not known.
    func sizes(_ tensor: TensorInfo, of role: TensorRole) -> [Int]? {
        model?.layout?.sizes(ofStored: tensor.shape, role)
    }
}

/// The options of a conversion.
public struct ConversionOptions: Sendable {
    /// The destination of a conversion's result.
    public enum Destination: Sendable {
        /// A single file.
        case file(path: String, container: CheckpointByteLayout.Container, isCompressed: Bool)
        /// A model directory with safetensors shards. Each shard has at most `shardByteCount` bytes, unless a single
        /// tensor is larger.
        case directory(path: String, shardByteCount: Int)

        /// The path of the result.
        public var path: String {
            switch self {
            case .file(let path, _, _), .directory(let path, _): path
            }
        }
    }

    /// The destination of the result.
    public var destination: Destination
    /// The layout that names the result's tensors.
    ///
    /// If it is nil, the layout is the source's, or Hugging Face's if there is a plan or a teacher.
    public var layout: TensorLayout?
    /// The dtype to write all F64, F32, F16 and BF16 tensors in; nil to keep each tensor's dtype.
    public var dtype: DType?
    /// The dtypes of floating-point tensors by role, which override ``dtype``.
    ///
    /// A nil value keeps the tensor's own dtype.
    public var roleDTypes: [TensorRole: DType?] = [:]
    /// Whether to clamp values that are outside a dtype's range, instead of throwing an error.
    public var saturates = false
    /// A closure that returns whether the tensor with the given name can be left out if the conversion does not use it.
    public var mayBeUnused: @Sendable (_ name: String) -> Bool = { _ in false }

    /// Creates options that keep the names and dtypes of tensors.
    public init(to destination: Destination) {
        self.destination = destination
    }
}
