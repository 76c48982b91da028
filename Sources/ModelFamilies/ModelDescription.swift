import CheckpointFiles

/// A model's family, layers, sizes, and the constants of its equations, as far as they are known.
public struct ModelDescription: Sendable {
    /// The family's architecture, with the choices that config.json makes.
    public internal(set) var architecture: Architecture
    /// The reasons for which the model was recognised, one clause each.
    public let evidence: [String]
    /// How the model's tensors are named and stored; nil if there are none.
    public let layout: TensorLayout?
    /// The sizes of the model.
    public let dimensions: Dimensions
    /// The layers, first to last.
    public internal(set) var layers: [LayerSpec]
    /// The kinds of the layers, first to last.
    public var kinds: [LayerKind] { layers.map(\.kind) }
    /// The epsilon of the norms; nil if it is not known.
    public let epsilon: Double?
    /// The rotary embedding that config.json sets and that individual layers may replace; nil if there is none.
    public let rotary: RotaryEmbedding?
    /// Whether attention layers use RoPE.
    public internal(set) var attentionUsesRoPE: Bool
    /// Which layer provides the first values and keys that time mixing mixes in.
    public internal(set) var firstValues: FirstValues
    /// Whether RoPE in time mixing is scaled as in attention; otherwise it is not scaled.
    public let scalesTimeMixingRoPE: Bool
    /// Whether embeddings are tied, that is, the head is the embedding.
    public internal(set) var hasTiedHead: Bool
    /// The optional roles that the model has.
    public internal(set) var optionalRoles: Set<TensorRole>
    /// Whether the first time-mixing layer stores value and key residuals, which nothing uses.
    public internal(set) var storesUnusedResiduals: Bool
    /// The logit softcap: logits become cap tanh(logit / cap); nil for none.
    public let logitSoftcap: Double?
    /// The checkpoint's tensor, or the rows of it, that holds the weights of each place.
    public let bindings: [TensorPlace: TensorBinding]
    /// How the weights are quantised; nil if they are not.
    public let quantisation: Quantisation?
    /// Disagreements between tensors, configuration and architecture.
    public let findings: [ModelFinding]
    /// The number of all findings; at most ``ModelFinding/limit`` of each kind are kept.
    public let findingCount: Int
    /// What the equations need but is not known: titles of ``Dimension`` and config.json keys.
    public let unknown: [String]

    /// The variant's name, for students and RWKV; nil for transformers.
    public var variant: String? { architecture.variant(of: kinds) }

    /// The epsilon of the GroupNorm on the heads' output; nil if a size or constant is not known.
    public var groupNormEpsilon: Double? {
        // RWKV-LM (RWKV-v7) uses 64e-5, flash-linear-attention norm_eps times the head size; both agree for 1e-5 and
        // heads of 64.
        guard layout?.name == TensorLayout.fla.name else { return 64e-5 }
        guard let epsilon, let size = dimensions[.headSize] else { return nil }
        return epsilon * Double(size)
    }

    /// The index of the layer that provides the first values and keys but mixes none in; nil if there is none.
    package var layerOfFirstValues: Int? { firstValues.layer(of: kinds) }

    /// Which layer provides the first values and keys that later layers mix in.
    public enum FirstValues: String, Sendable, CaseIterable {
        /// The first layer of time mixing, wherever it is.
        case firstTimeMixing = "first_rwkv_layer"
        /// Layer 0, even if it is attention.
        case layer0 = "layer_0"

        /// Returns the index of the providing layer among layers of these kinds; nil if there is none.
        func layer(of kinds: [LayerKind]) -> Int? { self == .layer0 ? 0 : kinds.firstIndex(where: \.carriesState) }
    }

    /// A tensor that the described model has.
    public struct ExpectedTensor: Sendable {
        /// The tensor's role.
        public let role: TensorRole
        /// The index of the tensor's layer; nil for a tensor outside layers.
        public let layer: Int?
        /// The shape of the tensor's role, before a layout's transform; nil if a size is not known.
        public let shape: [Int]?
    }

    /// The model's tensors: first those outside layers, then those of each layer, all in the order of
    /// ``TensorRole/all``.
    public var tensors: [ExpectedTensor] {
        var tensors: [ExpectedTensor] = []
        func add(_ roles: RoleSet, layer: Int?) {
            let present = roles.required.union(roles.optional.intersection(optionalRoles))
            for role in TensorRole.all where present.contains(role) && role.isPerLayer == (layer != nil) {
                tensors.append(ExpectedTensor(role: role, layer: layer, shape: dimensions.shape(role.shape)))
            }
        }
        var model = architecture.modelRoles
        if !hasTiedHead { model.add([.head], .always) }
        add(model, layer: nil)
        let first = layerOfFirstValues
        for (layer, spec) in layers.enumerated() {
            var roles = spec.roles(norm: architecture.body.norm)
            if layer == first, !storesUnusedResiduals { roles.makeOptional(architecture.timeMix?.residualRoles ?? []) }
            add(roles, layer: layer)
        }
        return tensors
    }

    /// The number of parameters of each part; nil if a size is not known.
    ///
    /// A tied head adds no parameters.
    public var parameterCounts: [TensorRole.Part: Int]? {
        var counts: [TensorRole.Part: Int] = [:]
        for tensor in tensors {
            guard let shape = tensor.shape else { return nil }
            let count = shape.reduce(1) { $0.multiplied(clamped: $1) }
            counts[tensor.role.part, default: 0] = counts[tensor.role.part, default: 0].adding(clamped: count)
        }
        return counts
    }

    /// The number of parameters of all parts; nil if a size is not known.
    public var parameterCount: Int? { parameterCounts?.values.reduce(0) { $0.adding(clamped: $1) } }

    /// Bytes of bf16 keys and values that each token adds to the caches of layers without a window; nil if a size is
    /// not known.
    public var cacheBytesPerToken: Int? {
        let count = layers.count { $0.kind.hasCache && $0.attention?.window == nil }
        guard count > 0 else { return 0 }
        return cacheBytesOfLayer.map { $0.multiplied(clamped: count) }
    }

    /// Bytes of bf16 keys and values that a token takes in the caches of layers with a window, keyed by window length
    /// in tokens.
    public var cacheBytesByWindow: [Int: Int] {
        layers.compactMap(\.attention?.window).reduce(into: [:]) { bytes, window in
            bytes[window] = (cacheBytesOfLayer ?? 0).adding(clamped: bytes[window] ?? 0)
        }
    }

    /// Bytes of bf16 keys and values that a token adds to the cache of one layer; nil if a size is not known.
    package var cacheBytesOfLayer: Int? { dimensions[.keyValueWidth].map { $0.multiplied(clamped: 4) } }

    /// Bytes of fp32 state in the recurrent layers, whatever the context length; nil if a size is not known.
    public var stateBytes: Int? {
        let count = layers.count(where: \.kind.carriesState)
        guard count > 0 else { return 0 }
        guard let size = Self.stateSize(architecture, dimensions) else { return nil }
        return size.multiplied(clamped: 4 * count)
    }

    /// Returns the number of values in a layer's state: N x N for each head, and C for each token shift.
    private static func stateSize(_ architecture: Architecture, _ dimensions: Dimensions) -> Int? {
        guard let heads = dimensions[.heads], let size = dimensions[.headSize], let width = dimensions[.width] else {
            return nil
        }
        let shifts =
            (architecture.timeMix?.tokenShift == .lerp ? 1 : 0) + (architecture.body.feedForward == .channelMix ? 1 : 0)
        return heads.multiplied(clamped: size).multiplied(clamped: size).adding(
            clamped: width.multiplied(clamped: shifts))
    }
}

/// A disagreement between tensors, configuration and architecture.
public struct ModelFinding: Sendable, Hashable {
    /// What a finding is about.
    public enum Kind: String, Sendable {
        /// A tensor that the model needs is missing.
        case missing
        /// A tensor is present that the architecture does not have, or that repeats another tensor's role.
        case unexpected
        /// A tensor is present that does not belong to the text model.
        case otherModel = "other_model"
        /// A tensor's shape differs from its role's shape, or cannot be checked.
        case shape
        /// Two sources disagree.
        case contradiction
        /// The model has settings or tensors that are not implemented for the architecture.
        case undescribed
    }

    /// What the finding is about.
    public let kind: Kind
    /// The name of the tensor concerned; nil if there is none.
    public let tensor: String?
    /// The whole finding, as a clause.
    public let message: String

    /// The maximum number of findings of each kind that are kept.
    public static let limit = 1000
}

/// A tensor's role, and the layer that it belongs to.
public struct TensorPlace: Sendable, Hashable {
    /// The tensor's role.
    public let role: TensorRole
    /// The index of the tensor's layer; nil for a tensor outside layers.
    public let layer: Int?

    /// Creates a place in a model.
    public init(role: TensorRole, layer: Int? = nil) {
        self.role = role
        self.layer = layer
    }
}

/// The tensor of a checkpoint, or the rows of it, that holds a role's weights.
public struct TensorBinding: Sendable, Hashable {
    /// The tensor's position in the checkpoint.
    public let position: Int
    /// The role's rows in the tensor; nil for all.
    public let rows: Range<Int>?

    /// Creates a binding.
    package init(position: Int, rows: Range<Int>? = nil) {
        self.position = position
        self.rows = rows
    }
}
