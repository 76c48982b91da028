import Bytes
import CRWKVKernels
import CheckpointFiles
import LayerPlanning
import ModelFamilies

/// A builder that assembles a conversion tensor by tensor and accounts for every input tensor.
struct ConversionBuilder {
    let inputs: [Conversion.Part: ConversionInput]
    let options: ConversionOptions
    let layout: TensorLayout?
    let changes: AdapterChanges

    private(set) var tensors: [Conversion.Tensor] = []
    private var users: [Conversion.InputTensor: [Int]] = [:]
    /// The names of the output tensors added so far.
    private var names: Set<ByteString> = []
    /// The representative of each tied tensor, which is one tensor of the group that shares the same elements.
    private var representatives: [Conversion.InputTensor: Conversion.InputTensor] = [:]
    /// The places in the model that each input tensor fills.
    ///
    /// A fused tensor fills several places.
    private(set) var places: [Conversion.InputTensor: [TensorPlace]] = [:]
    /// The index of the first output tensor that uses an input tensor unchanged, keyed by the input tensor and the
    /// output dtype.
    private var plain: [Plain: Int] = [:]

    private struct Plain: Hashable {
        let tensor: Conversion.InputTensor
        let dtype: DType
    }

    init(
        _ inputs: [Conversion.Part: ConversionInput], _ changes: AdapterChanges, layout: TensorLayout?,
        options: ConversionOptions
    ) {
        self.inputs = inputs
        self.changes = changes
        self.layout = layout
        self.options = options
        for (part, input) in inputs {
            for (place, binding) in input.model?.bindings ?? [:] {
                places[Conversion.InputTensor(part: part, position: binding.position), default: []].append(place)
            }
            // Keep fused roles in the layout's order, because the output tensor is added once, for the first of them.
            for (tensor, own) in places where tensor.part == part && own.count > 1 {
                let order = input.model?.layout?.fusion(of: own[0].role) ?? []
                places[tensor] = order.compactMap { role in own.first { $0.role == role } }
            }
            let embedding = input.model?.bindings[TensorPlace(role: .embedding)]?.position
            for group in input.checkpoint.tiedPositions {
                let first = embedding.flatMap { group.contains($0) ? $0 : nil } ?? group[0]
                for position in group {
                    representatives[Conversion.InputTensor(part: part, position: position)] =
                        Conversion.InputTensor(part: part, position: first)
                }
            }
        }
    }

    func error(
        _ category: CheckpointError.Category, in part: Conversion.Part = .source, _ problem: String,
        tensor: String? = nil, expected: String? = nil, found: String? = nil, advice: String? = nil
    ) -> CheckpointError {
        CheckpointError(
            category, path: inputs[part]?.checkpoint.path ?? options.destination.path, problem, tensor: tensor,
            expected: expected, found: found, advice: advice)
    }

    /// Returns the tensor that represents all tensors tied to `tensor`, which is `tensor` itself if it is not tied.
    func representative(of tensor: Conversion.InputTensor) -> Conversion.InputTensor {
        representatives[tensor] ?? tensor
    }

    /// Returns the adapter's tensor that replaces a tensor, or the tensor itself if there is none.
    private func replaced(_ tensor: Conversion.InputTensor) -> Conversion.InputTensor {
        tensor.part == .source ? changes.replacements[tensor.position] ?? tensor : tensor
    }

    // MARK: Adding tensors

    /// Adds an output tensor that is computed from an input tensor.
    ///
    /// - Parameters:
    ///   - input: the input tensor.
    ///   - name: the output tensor's name.
    ///   - place: the output tensor's place in the model; nil if it is not known.
    ///   - shape: the output tensor's shape, which must have as many elements as the steps take from the input tensor.
    ///   - steps: the steps to apply to the input tensor, not including an adapter's changes.
    ///   - sharesTied: whether the output tensor can share its bytes with an earlier output tensor that has the same
    ///     elements.
    /// - Throws: `CheckpointError`: `malformed` if two output tensors would have the same name or a size overflows,
    ///   or `unsupported` if the steps are incompatible with the adapter's changes or the dtypes.
    mutating func add(
        _ input: Conversion.InputTensor, name: String, place: TensorPlace?, shape: [Int],
        _ steps: Conversion.Steps = .init(), sharesTied: Bool
    ) throws(CheckpointError) {
        let input = representative(of: input)
        var steps = steps
        var from = input
        let followers = steps.followers.map { representative(of: $0) }
        steps.followers = followers.map(replaced)
        if input.part == .source {
            steps.merge = changes.merges[input.position]
            from = replaced(input)
            let joinsMerged =
                !followers.isEmpty && ([input] + followers).contains { changes.merges[$0.position] != nil }
            if joinsMerged || steps.merge != nil && (steps.isTransposed || steps.rows != nil || steps.blocks != nil) {
                throw error(
                    .unsupported, in: .adapter,
                    steps.isTransposed
                        ? "the adapter changes a matrix that the layout stores transposed"
                        : "the adapter changes a matrix that is split or joined by rows",
                    tensor: inputs[.source]?.checkpoint.tensors[input.position].name,
                    advice: "merge the adapter first, then convert the result")
            }
        }
        guard let info = info(from) else { return }
        let others = steps.followers.compactMap { self.info($0) }
        if options.dtype == nil, let other = others.first(where: { $0.dtype != info.dtype }) {
            throw error(
                .unsupported, in: from.part, "the parts of the fused tensor \(name) have different dtypes",
                tensor: other.name, expected: info.dtype.rawValue, found: other.dtype.rawValue,
                advice: "--dtype casts all of them")
        }
        // 1 + w needs more bits than w, so use F32 instead of BF16 or F16.
        let kept = steps.offset != 0 && [.bf16, .f16].contains(info.dtype) ? .f32 : info.dtype
        let dtype = try dtype(of: kept, place, name: name, isComputed: steps.areComputed)
        let isPlain = steps.isPlain
        let key = Plain(tensor: from, dtype: dtype)
        let shared = isPlain && sharesTied ? plain[key] : nil
        try append(name, dtype, shape, sharedWith: shared, origin: .tensor(from, steps))
        if isPlain, sharesTied { plain[key] = shared ?? tensors.count - 1 }
        let users = [from] + steps.followers + (steps.merge?.inputs ?? [])
        for user in users { self.users[user, default: []].append(tensors.count - 1) }
    }

    /// Adds an output tensor whose values are computed from a formula.
    mutating func add(_ values: InitialValues, name: String, shape: [Int], dtype: DType) throws(CheckpointError) {
        guard values.isPossible else {
            throw error(
                .unsupported, "a tensor of this shape cannot be initialised as orthogonal", tensor: name,
                found: "\(shape)")
        }
        let dtype = try self.dtype(of: dtype, values.place, name: name, isComputed: true)
        try append(name, dtype, shape, sharedWith: nil, origin: .initialised(values))
    }

    private mutating func append(
        _ name: String, _ dtype: DType, _ shape: [Int], sharedWith: Int?,
        origin: Conversion.Origin
    ) throws(CheckpointError) {
        let output: OutputTensor
        do throws(DType.SizeError) {
            output = try OutputTensor(name: name, dtype: dtype, shape: shape, sharedWith: sharedWith)
        } catch {
            throw self.error(.malformed, "the size of a tensor overflows", tensor: name, found: "\(shape)")
        }
        guard names.insert(ByteString(name)).inserted else {
            throw error(.malformed, "two tensors would have the same name", tensor: name)
        }
        tensors.append(Conversion.Tensor(output: output, origin: origin))
    }

    /// Chooses the dtype of an output tensor.
    private func dtype(
        of dtype: DType, _ place: TensorPlace?, name: String, isComputed: Bool
    ) throws(CheckpointError) -> DType {
        guard dtype.floatElement != nil else {
            guard !isComputed else {
                throw error(
                    .unsupported, "the tensor's values must change, but its dtype is not a floating-point type",
                    tensor: name, found: dtype.rawValue)
            }
            return dtype
        }
        guard let role = place?.role else { return options.dtype ?? dtype }
        let roles = (layout ?? inputs[.source]?.model?.layout)?.fusion(of: role) ?? [role]
        let asked = Set(roles.map { options.roleDTypes[$0] })
        guard asked.count == 1, let own = asked.first else {
            throw error(
                .unsupported, "--dtype-for gives the parts of one tensor different dtypes", tensor: name,
                expected: "one dtype for \(roles.map(\.rawValue).joined(separator: ", "))")
        }
        return (own ?? options.dtype) ?? dtype
    }

    // MARK: Accounting

    /// Determines the fate of every tensor in every input checkpoint.
    ///
    /// - Parameter reason: returns the reason why an unused tensor can be dropped, or nil if it must not be dropped.
    /// - Returns: the fates of each checkpoint's tensors, in the order of the tensors.
    /// - Throws: `CheckpointError` of category `malformed` if an unused tensor must not be dropped.
    func fates(
        _ reason: (Conversion.InputTensor, TensorInfo) -> String?
    ) throws(CheckpointError) -> [Conversion.Part: [Conversion.Fate]] {
        var fates: [Conversion.Part: [Conversion.Fate]] = [:]
        for part in Conversion.Part.allCases {
            guard let input = inputs[part] else { continue }
            var own: [Conversion.Fate] = []
            var unaccounted: [String] = []
            let all = input.checkpoint.tensors
            own.reserveCapacity(all.count)
            for position in all.indices {
                let tensor = Conversion.InputTensor(part: part, position: position)
                let first = representative(of: tensor)
                if let users = users[tensor] {
                    own.append(.used(users))
                } else if first != tensor, users[first] != nil {
                    own.append(.tied(first.position))
                } else {
                    let info = all[position]
                    let isReplaced = part == .source && changes.replacements[first.position] != nil
                    let why =
                        isReplaced
                        ? "replaced by the adapter's tensor"
                        : reason(tensor, info) ?? (options.mayBeUnused(info.name) ? "allowed to be unused" : nil)
                    if why == nil { unaccounted.append(info.name) }
                    own.append(.dropped(reason: why ?? ""))
                }
            }
            for other in input.checkpoint.otherTensors where !other.isListed && !options.mayBeUnused(other.name) {
                unaccounted.append(other.name)
            }
            if let name = unaccounted.first {
                throw error(
                    .malformed, in: part,
                    unaccounted.count == 1
                        ? "a tensor has no place in the output"
                        : "\(unaccounted.count) tensors have no place in the output", tensor: name,
                    advice: "--allow-unused '\(name)' leaves it out")
            }
            fates[part] = own
        }
        return fates
    }
}

extension Checkpoint {
    /// The positions of tied tensors, in groups that share the same elements of one storage.
    var tiedPositions: [[Int]] {
        tiedTensors.map { $0.compactMap { position(ofTensorNamed: $0) } }.filter { $0.count > 1 }
    }

    /// The additional names that a safetensors file's metadata records for its tensors, with the position of each
    /// tensor.
    ///
    /// The safetensors library records tensors that share memory in this way.
    var notedNames: [(name: String, position: Int)] {
        guard format == .safetensors else { return [] }
        return metadata.sorted { $0.key < $1.key }.compactMap { name, other in
            guard position(ofTensorNamed: name.text) == nil else { return nil }
            return position(ofTensorNamed: other).map { (name.text, $0) }
        }
    }
}
