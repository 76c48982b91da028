import Bytes
import CRWKVKernels
import CheckpointFiles
import ModelFamilies
import RWKVLayers
import RWKVNumerics

/// A reader that loads the weights of a model by role and layer.
struct WeightReader<Element: Real>: Sendable {
    let checkpoint: Checkpoint
    let description: ModelDescription
    let layout: TensorLayout
    let memory: TensorMemory
    private let epsilon: Double
    private let weights: [TensorPlace: StoredMatrix]

    private static var headSizeLimit: Int { 4096 }

    init(
        _ checkpoint: Checkpoint, _ description: ModelDescription, replacing weights: [TensorPlace: StoredMatrix]
    ) throws(CheckpointError) {
        if let blocker = description.runBlocker {
            throw CheckpointError(.malformed, path: checkpoint.path, "the model cannot be run: \(blocker)")
        }
        guard let layout = description.layout, let epsilon = description.epsilon else {
            throw CheckpointError(.malformed, path: checkpoint.path, "the model cannot be run: it has no tensors")
        }
        // The state of each time-mixing head is a square matrix of this size.
        if let size = description.dimensions[.headSize], size > Self.headSizeLimit {
            throw CheckpointError(
                .unsupported, path: checkpoint.path, "the head size exceeds the limit",
                expected: "at most \(Self.headSizeLimit) channels", found: "\(size)")
        }
        self.checkpoint = checkpoint
        self.description = description
        self.layout = layout
        self.epsilon = epsilon
        self.weights = weights
        memory = TensorMemory(checkpoint)
    }

    /// Returns the factor for embedding rows, sqrt(C) rounded to the embedding's dtype; nil if rows are not scaled.
    func embeddingScale() throws(CheckpointError) -> Double? {
        guard description.architecture.body.scalesEmbedding, let tensor = tensor(.embedding, nil),
            let width = description.dimensions[.width]
        else { return nil }
        // transformers computes the factor in fp32, and then rounds it to the embedding's dtype.
        var (scale, stored) = (Float(width).squareRoot(), UInt64(0))
        if let element = tensor.dtype.kernelElement {
            let kernels = rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE).pointee
            _ = kernels.cast(RWKV_ELEMENT_F32, &scale, element, &stored, 1, 0)
            _ = kernels.cast(element, &stored, RWKV_ELEMENT_F32, &scale, 1, 0)
        }
        return Double(scale)
    }

    func replaces(_ layer: Int) -> Bool { weights.keys.contains { $0.layer == layer } }

    private func tensor(_ role: TensorRole, _ layer: Int?) -> TensorInfo? {
        binding(role, layer).map { checkpoint.tensors[$0.position] }
    }

    private func binding(_ role: TensorRole, _ layer: Int?) -> TensorBinding? {
        description.bindings[TensorPlace(role: role, layer: layer)]
    }

    /// Whether the head is tied to the embedding: there is no separate head, or config.json ties the two and both have
    /// the same bytes.
    ///
    /// The getter throws `malformed` if config.json ties the two but their bytes differ.
    var isHeadTied: Bool {
        get throws(CheckpointError) {
            guard let head = tensor(.head, nil), let embedding = tensor(.embedding, nil) else { return true }
            guard description.hasTiedHead else { return false }
            guard try checkpoint.hasSameBytes(head, as: embedding, of: checkpoint) else {
                throw CheckpointError(
                    .malformed, path: checkpoint.path,
                    "config.json ties the head to the embedding, but the checkpoint has a head that differs",
                    tensor: head.name,
                    advice: "set tie_word_embeddings to false to use the head")
            }
            return true
        }
    }

    private func missing(_ role: TensorRole, _ layer: Int?) -> CheckpointError {
        CheckpointError(
            .malformed, path: checkpoint.path, "a tensor of the model is missing",
            tensor: layout.name(of: role, layer: layer) ?? role.rawValue)
    }

    func matrix(_ role: TensorRole, _ layer: Int? = nil) throws(CheckpointError) -> StoredMatrix {
        if let own = weights[TensorPlace(role: role, layer: layer)] { return own }
        guard let tensor = tensor(role, layer) else { throw missing(role, layer) }
        guard tensor.shape.count == 2, let element = tensor.dtype.kernelElement else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path, "a weight is not a matrix of floating-point numbers",
                tensor: tensor.name, found: "\(tensor.dtype.rawValue) \(tensor.shape)")
        }
        let bytes = try memory.bytes(of: tensor)
        let rows = binding(role, layer)?.rows ?? 0..<tensor.shape[0]
        guard rows.upperBound <= tensor.shape[0] else { throw missing(role, layer) }
        let start = bytes.start + rows.lowerBound * tensor.shape[1] * tensor.dtype.bitWidth / 8
        // Low-rank matrices are [inputs, outputs], and all others are [outputs, inputs], unless the layout transposes
        // them.
        return StoredMatrix(
            start, element, shape: (rows.count, tensor.shape[1]), isInputMajor: isInputMajor(role), owner: bytes.owner)
    }

    /// Returns the matrices of a tensor with three dimensions, of which the first numbers them.
    ///
    /// If the layout transposes the tensor, each matrix is a copy of some of its columns.
    private func matrices(_ role: TensorRole, _ layer: Int) throws(CheckpointError) -> [StoredMatrix] {
        guard let tensor = tensor(role, layer) else { throw missing(role, layer) }
        if layout.isTransposed(role), let sizes = layout.sizes(ofStored: tensor.shape, role) {
            let (count, rank, width) = (sizes[0], sizes[1], sizes[2])
            let all = try vector(role, layer)
            return (0..<count).map { number in
                let part = (0..<width).flatMap { all[(($0 * count + number) * rank)...].prefix(rank) }
                return StoredMatrix(sharing: Matrix(part, columns: rank))
            }
        }
        guard tensor.shape.count == 3, let element = tensor.dtype.kernelElement else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path, "a weight does not consist of matrices of floating-point numbers",
                tensor: tensor.name, found: "\(tensor.dtype.rawValue) \(tensor.shape)")
        }
        if let own = weights[TensorPlace(role: role, layer: layer)] { return own.split(rows: tensor.shape[1]) }
        let bytes = try memory.bytes(of: tensor)
        return StoredMatrix(
            bytes.start, element, shape: (tensor.shape[0] * tensor.shape[1], tensor.shape[2]),
            isInputMajor: isInputMajor(role), owner: bytes.owner
        ).split(rows: tensor.shape[1])
    }

    func isInputMajor(_ role: TensorRole) -> Bool { role.isInputMajor != layout.isTransposed(role) }

    /// Returns the values of a weight in storage order.
    func numbers(of place: TensorPlace) throws(CheckpointError) -> [Element] {
        if binding(place.role, place.layer)?.rows != nil, place.role.shape.count == 2 {
            return try matrix(place.role, place.layer).numbers()
        }
        return try vector(place.role, place.layer)
    }

    private func optionalVector(_ role: TensorRole, _ layer: Int?) throws(CheckpointError) -> [Element]? {
        if let own = weights[TensorPlace(role: role, layer: layer)] { return own.numbers() }
        guard let tensor = tensor(role, layer) else { return nil }
        guard let element = tensor.dtype.kernelElement else { throw missing(role, layer) }
        let bytes = try memory.bytes(of: tensor)
        // A vector can be part of a fused tensor.
        let part = binding(role, layer)?.rows ?? 0..<tensor.elementCount
        guard part.upperBound <= tensor.elementCount else { throw missing(role, layer) }
        return StoredMatrix(
            bytes.start + part.lowerBound * tensor.dtype.bitWidth / 8, element, shape: (1, part.count),
            isInputMajor: false, owner: bytes.owner
        ).numbers()
    }

    private func vector(_ role: TensorRole, _ layer: Int?) throws(CheckpointError) -> [Element] {
        guard let vector = try optionalVector(role, layer) else { throw missing(role, layer) }
        return vector
    }

    func norm(_ weight: TensorRole, _ bias: TensorRole?, _ layer: Int? = nil) throws(CheckpointError) -> Norm<Element> {
        switch description.architecture.body.norm {
        case .rms: return .rms(weight: try vector(weight, layer), epsilon: epsilon)
        case .rmsOfOnePlus: return .rms(weight: try vector(weight, layer).map { 1 + $0 }, epsilon: epsilon)
        case .layer:
            guard let bias else { throw missing(weight, layer) }
            return .layer(weight: try vector(weight, layer), bias: try vector(bias, layer), epsilon: epsilon)
        }
    }

    private func norms(
        _ placement: LayerSpec.NormPlacement, _ before: TensorRole, _ bias: TensorRole, _ after: TensorRole,
        _ layer: Int
    ) throws(CheckpointError) -> BranchNorms<Element> {
        BranchNorms(
            before: placement.isBefore ? try norm(before, bias, layer) : nil,
            after: placement.isAfter ? try norm(after, nil, layer) : nil)
    }

    private func linear(
        _ weight: TensorRole, _ bias: TensorRole?, _ layer: Int
    ) throws(CheckpointError) -> Linear<Element> {
        let vector: [Element]? = if let bias { try optionalVector(bias, layer) } else { nil }
        return Linear(weight: try matrix(weight, layer), bias: vector)
    }

    private func lowRank(
        _ base: TensorRole?, _ down: TensorRole, _ up: TensorRole, _ activation: LowRank<Element>.Activation,
        _ layer: Int
    ) throws(CheckpointError) -> LowRank<Element> {
        let vector: [Element]? = if let base { try vector(base, layer) } else { nil }
        return LowRank(
            base: vector, down: try matrix(down, layer), up: try matrix(up, layer), activation: activation)
    }

    private func headNorms(
        _ query: TensorRole, _ key: TensorRole, plus offset: Element = 0, _ layer: Int
    ) throws(CheckpointError) -> HeadNorms<Element>? {
        if tensor(query, layer) == nil, tensor(key, layer) == nil { return nil }
        func weights(_ role: TensorRole) throws(CheckpointError) -> [Element] {
            let weights = try vector(role, layer)
            return offset == 0 ? weights : weights.map { offset + $0 }
        }
        return HeadNorms(query: try weights(query), key: try weights(key), epsilon: epsilon)
    }

    func layer(_ layer: Int) throws(CheckpointError) -> Layer<Element> {
        let spec = description.layers[layer]
        let mixer: Layer<Element>.Mixer =
            switch spec.mixer {
            case .attention(let attention): .attention(try self.attention(attention, layer))
            case .timeMix(.rwkv7(let stages)): .wkv7(try timeMix(stages, layer))
            case .timeMix(.rwkv6(let stages)): .wkv6(try timeMix(stages, layer))
            }
        let feedForward: FeedForward<Element> =
            switch spec.feedForward {
            case .gated(let activation):
                .gated(
                    activation, gate: try linear(.feedForwardGate, nil, layer),
                    up: try linear(.feedForwardUp, nil, layer), down: try linear(.feedForwardDown, nil, layer))
            case .channelMix(let channelMix): try self.channelMix(channelMix, layer)
            }
        return Layer(
            mixerNorms: try norms(spec.mixerNorms, .mixerNormWeight, .mixerNormBias, .mixerPostNormWeight, layer),
            mixer: mixer,
            feedForwardNorms: try norms(
                spec.feedForwardNorms, .feedForwardNormWeight, .feedForwardNormBias, .feedForwardPostNormWeight, layer),
            feedForward: feedForward)
    }

    private func size(_ dimension: ModelDimension) throws(CheckpointError) -> Int {
        try known(description.dimensions[dimension], dimension.title)
    }

    private func known<Value>(_ value: Value?, _ what: String) throws(CheckpointError) -> Value {
        guard let value else {
            throw CheckpointError(.malformed, path: checkpoint.path, "the model cannot be run: \(what) is not known")
        }
        return value
    }

    private func attention(_ spec: Attention, _ layer: Int) throws(CheckpointError) -> SoftmaxAttention<Element> {
        let size = try size(.headSize)
        return SoftmaxAttention(
            AttentionParameters(
                heads: try self.size(.heads), keyValueHeads: try self.size(.keyValueHeads),
                scale: spec.scale ?? 1 / Double(size).squareRoot(), window: spec.window, softcap: spec.softcap),
            query: try linear(.queryWeight, .queryBias, layer), key: try linear(.keyWeight, .keyBias, layer),
            value: try linear(.valueWeight, .valueBias, layer), output: try linear(.outputWeight, .outputBias, layer),
            headNorms: try headNorms(
                .queryNorm, .keyNorm, plus: description.architecture.body.norm == .rmsOfOnePlus ? 1 : 0, layer))
    }

    private func timeMix(_ stages: TimeMix7, _ layer: Int) throws(CheckpointError) -> WKV7Mixer<Element> {
        let tokenShift: TokenShift<Element> =
            switch stages.tokenShift {
            case .none: .none
            case .lerp:
                .lerp(
                    receptance: try vector(.shiftReceptance, layer), decay: try vector(.shiftDecay, layer),
                    key: try vector(.shiftKey, layer), value: try vector(.shiftValue, layer),
                    iclr: try vector(.shiftICLR, layer),
                    gate: stages.gate == .none ? nil : try vector(.shiftGate, layer))
            }
        let removalKey: RemovalKey<Element> =
            switch stages.removalKey {
            case .key: .key
            case .scaledKey: .scaledKey(try vector(.removalKeyScale, layer))
            }
        let keyScale: KeyScale<Element> =
            switch stages.keyScale {
            case .none: .none
            case .iclr: .iclr(mix: try vector(.keyICLRMix, layer))
            case .oneMinusOmega: .oneMinusOmega
            case .oneMinusDecay: .oneMinusDecay
            }
        return WKV7Mixer(
            heads: try size(.heads), keyValueHeads: try size(.keyValueHeads), tokenShift: tokenShift,
            receptance: try linear(.receptanceWeight, .receptanceBias, layer),
            key: try linear(.timeMixKeyWeight, .timeMixKeyBias, layer),
            value: try linear(.timeMixValueWeight, .timeMixValueBias, layer),
            output: try linear(.timeMixOutputWeight, .timeMixOutputBias, layer),
            headNorms: try headNorms(.receptanceNorm, .timeMixKeyNorm, layer),
            decay: try lowRank(.decayBase, .decayDown, .decayUp, .tanh, layer),
            iclr: try lowRank(.iclrBase, .iclrDown, .iclrUp, .none, layer),
            gate: try gate(stages.gate, layer),
            valueResidual: try valueResidual(stages.valueResidual, layer),
            keyResidual: stages.hasKeyResidual
                ? try residual(.keyResidualBase, .keyResidualDown, .keyResidualUp, layer) : nil,
            removalKey: removalKey, keyScale: keyScale, outputNorm: try outputNorm(stages.outputNorm, layer),
            bonus: stages.hasBonus ? try vector(.bonus, layer) : nil)
    }

    private func timeMix(_ stages: TimeMix6, _ layer: Int) throws(CheckpointError) -> WKV6Mixer<Element> {
        let tokenShift: WKV6Mixer<Element>.TokenShift =
            switch stages.tokenShift {
            case .none: .none
            case .fixed:
                .fixed(
                    receptance: try complement(.shiftReceptance, layer), key: try complement(.shiftKey, layer),
                    value: try complement(.shiftValue, layer), gate: try complement(.shiftGate, layer))
            case .dataDependent: .dataDependent(try dataDependentShift(stages.shiftOrder, layer))
            }
        let decay: WKV6Mixer<Element>.Decay =
            switch stages.decay {
            case .fixed: .fixed(try vector(.fixedDecay, layer).map { Element(exponential(-exponential(Double($0)))) })
            case .lowRank, .clampedLowRank:
                .lowRank(
                    try lowRank(.decayBase, .decayDown, .decayUp, .tanh, layer),
                    floor: stages.decay == .clampedLowRank ? -5 : -.infinity)
            }
        return WKV6Mixer(
            heads: try size(.heads), keyValueHeads: try size(.keyValueHeads), tokenShift: tokenShift,
            receptance: try linear(.receptanceWeight, .receptanceBias, layer),
            key: try linear(.timeMixKeyWeight, .timeMixKeyBias, layer),
            value: try linear(.timeMixValueWeight, .timeMixValueBias, layer), gate: try gate(stages.gate, layer),
            output: try linear(.timeMixOutputWeight, .timeMixOutputBias, layer), decay: decay,
            balancesKeys: stages.balancesKeys, bonus: stages.hasBonus ? try vector(.bonus, layer) : nil,
            outputNorm: try outputNorm(stages.outputNorm, layer))
    }

    private func gate(_ gate: TimeMixSpec.Gate, _ layer: Int) throws(CheckpointError) -> Gate<Element> {
        func lowRank() throws(CheckpointError) -> LowRank<Element> {
            try self.lowRank(nil, .gateDown, .gateUp, .sigmoid, layer)
        }
        return switch gate {
        case .none: .none
        case .lowRank: .lowRank(try lowRank())
        case .onePlusLowRank: .onePlusLowRank(try lowRank())
        case .sigmoidProjection: .sigmoid(try linear(.gateWeight, nil, layer))
        case .siluProjection: .silu(try linear(.gateWeight, nil, layer))
        }
    }

    private func outputNorm(
        _ norm: TimeMixSpec.OutputNorm, _ layer: Int
    ) throws(CheckpointError) -> OutputNorm<Element> {
        switch norm {
        case .none: .none
        case .headScale: .headScale
        case .groupNorm:
            .groupNorm(
                weight: try vector(.groupNormWeight, layer), bias: try vector(.groupNormBias, layer),
                epsilon: try known(description.groupNormEpsilon, "the epsilon of its group norm"))
        }
    }

    private func dataDependentShift(
        _ order: [TensorRole], _ layer: Int
    ) throws(CheckpointError) -> DataDependentShift<Element> {
        let ups = try matrices(.shiftUp, layer)
        guard ups.count == order.count else { throw missing(.shiftUp, layer) }
        var parts: [(role: TensorRole, up: StoredMatrix, base: [Element])] = []
        for (up, base) in zip(ups, order) { parts.append((base, up, try vector(base, layer))) }
        return DataDependentShift(
            share: try vector(.shiftInput, layer), down: try matrix(.shiftDown, layer), parts: parts)
    }

    private func channelMix(
        _ spec: FeedForwardSpec.ChannelMix, _ layer: Int
    ) throws(CheckpointError) -> FeedForward<Element> {
        func share(_ role: TensorRole) throws(CheckpointError) -> [Element] {
            try spec == .rwkv5 ? complement(role, layer) : vector(role, layer)
        }
        let receptance: (share: [Element], weight: Linear<Element>)? =
            spec == .rwkv7
            ? nil : (try share(.channelMixReceptanceShift), try linear(.channelMixReceptance, nil, layer))
        return .channelMix(
            share: try share(.channelMixShift), key: try linear(.channelMixKey, nil, layer),
            value: try linear(.channelMixValue, nil, layer), receptance: receptance)
    }

    /// Returns the shares of the previous token, given a vector that contains those of the current token.
    private func complement(_ role: TensorRole, _ layer: Int) throws(CheckpointError) -> [Element] {
        try vector(role, layer).map { 1 - $0 }
    }

    private func valueResidual(
        _ stage: TimeMix7.ValueResidual, _ layer: Int
    ) throws(CheckpointError) -> ValueResidual<Element>? {
        func firstValues() throws(CheckpointError) -> Residual<Element>? {
            try residual(.valueResidualBase, .valueResidualDown, .valueResidualUp, layer)
        }
        switch stage {
        case .none: return nil
        case .beforeRepeat: return try firstValues().map { .beforeRepeat($0) }
        case .afterRepeat: return try firstValues().map { .afterRepeat($0) }
        case .lowRank: return .lowRank(try lowRank(nil, .valueResidualDown, .valueResidualUp, .none, layer))
        }
    }

    /// Returns a value or key residual; nil if the layer provides k_first and v_first and stores no residual.
    private func residual(
        _ base: TensorRole, _ down: TensorRole, _ up: TensorRole, _ layer: Int
    ) throws(CheckpointError) -> Residual<Element>? {
        if layer == description.layerOfFirstValues, tensor(base, layer) == nil { return nil }
        return Residual(share: try lowRank(base, down, up, .none, layer))
    }
}
