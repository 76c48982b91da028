import CheckpointFiles

/// What a model is: its family, the kind of every layer, every size, and the constants of its equations, as far as they are known.
public struct ModelDescription: Sendable {
    /// What is known of its family, with the choices made that its config.json makes.
    public internal(set) var architecture: Architecture
    /// What made it that; a sentence each.
    public let evidence: [String]
    /// How its tensors are named; nil where there are none.
    public let layout: TensorLayout?
    /// Its sizes.
    public let dimensions: Dimensions
    /// Front to back.
    public internal(set) var layers: [LayerSpec]
    /// What documents call its layers.
    public var kinds: [LayerKind] { layers.map(\.kind) }
    /// Of the norms; nil where no config.json says.
    public let epsilon: Double?
    /// nil where no config.json says, or nothing is turned.
    public let rotary: RotaryEmbedding?
    /// Whether attention layers are run with rotation.
    public internal(set) var turnsAttention: Bool
    /// Where the values and keys come from that time mixing mixes in.
    public internal(set) var firstValues: FirstValues
    /// Whether time mixing is turned with the stretched wavelengths of attention, or with those of theta alone.
    public let stretchesTimeMixing: Bool
    /// Whether the embedding is the head.
    public internal(set) var hasTiedHead: Bool
    /// The roles that are there though they need not be.
    public internal(set) var optionalRoles: Set<TensorRole>
    /// Whether the first time mixing has residuals, which nothing uses.
    public internal(set) var storesUnusedResiduals: Bool
    /// The cap on logits, which become cap tanh(logit / cap); nil for none.
    public let logitSoftcap: Double?
    /// Where the checkpoint has what each role needs.
    public let bindings: [TensorPlace: TensorBinding]
    /// How its weights are quantised; nil where they are not.
    public let quantisation: Quantisation?
    /// Where tensors, configuration and architecture do not go together.
    public let findings: [ModelFinding]
    /// How many findings there are; no more than ``ModelFinding/limit`` of a kind are kept.
    public let findingCount: Int
    /// What could not be known, in words of ``Dimension`` and keys of config.json.
    public let unknown: [String]

    /// The name of a kind of student or RWKV; nil for transformers.
    public var variant: String? { architecture.variant(of: kinds) }

    /// Of the norm over the heads' output; nil where sizes or constants are not known.
    public var groupNormEpsilon: Double? {
        // RWKV-LM, RWKV-v7: 64e-5, and 1e-5 for each channel of a head in flash-linear-attention: the same for heads of 64.
        guard layout?.name == TensorLayout.fla.name else { return 64e-5 }
        guard let epsilon, let size = dimensions[.headSize] else { return nil }
        return epsilon * Double(size)
    }

    /// The layer that gives the first values and keys, and mixes none in.
    package var layerOfFirstValues: Int? { firstValues.layer(of: kinds) }

    /// Where the values and keys come from that later layers mix in.
    public enum FirstValues: String, Sendable, CaseIterable {
        /// The first layer of time mixing, wherever it is.
        case firstTimeMixing = "first_rwkv_layer"
        /// Layer 0, even where that is attention.
        case layer0 = "layer_0"

        /// The layer that gives them, of layers of these kinds.
        func layer(of kinds: [LayerKind]) -> Int? { self == .layer0 ? 0 : kinds.firstIndex(where: \.carriesState) }
    }

    /// A tensor that a model of this description has.
    public struct ExpectedTensor: Sendable {
        /// What it is for.
        public let role: TensorRole
        /// The number of its layer; nil for those of the model as a whole.
        public let layer: Int?
        /// As its role has it, not as a layout stores it; nil where a size is not known.
        public let shape: [Int]?
    }

    /// The tensors that the model has, front to back; in a layer by role.
    public var tensors: [ExpectedTensor] {
        var tensors: [ExpectedTensor] = []
        func add(_ roles: RoleSet, layer: Int?) {
            let present = roles.required.union(roles.optional.intersection(optionalRoles))
            for role in TensorRole.all where present.contains(role) && role.isOfLayer == (layer != nil) {
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

    /// How many parameters each part has; nil where a size is not known.
    ///
    /// A tied head has none of its own.
    public var parameterCounts: [TensorRole.Part: Int]? {
        var counts: [TensorRole.Part: Int] = [:]
        for tensor in tensors {
            guard let shape = tensor.shape else { return nil }
            let count = shape.reduce(1) { $0.multiplied(clamped: $1) }
            counts[tensor.role.part, default: 0] = counts[tensor.role.part, default: 0].adding(clamped: count)
        }
        return counts
    }

    /// How many parameters all parts have; nil where a size is not known.
    public var parameterCount: Int? { parameterCounts?.values.reduce(0) { $0.adding(clamped: $1) } }

    /// Bytes of bf16 keys and values that a token adds to the cache at any context, windows left aside, which stop growing; nil where a
    /// size is not known.
    public var cacheBytesPerToken: Int? {
        let count = layers.count { $0.kind.hasCache && $0.attention?.window == nil }
        guard count > 0 else { return 0 }
        return cacheBytesOfLayer.map { $0.multiplied(clamped: count) }
    }

    /// Bytes of bf16 keys and values that a token adds to the caches of layers with a window, by the number of tokens in it.
    public var cacheBytesByWindow: [Int: Int] {
        layers.compactMap(\.attention?.window).reduce(into: [:]) { bytes, window in
            bytes[window] = (cacheBytesOfLayer ?? 0).adding(clamped: bytes[window] ?? 0)
        }
    }

    /// Bytes of bf16 keys and values that a token adds to the cache of one layer; nil where a size is not known.
    package var cacheBytesOfLayer: Int? { dimensions[.keyValueWidth].map { $0.multiplied(clamped: 4) } }

    /// Bytes of fp32 state that the recurrent layers keep, whatever the context; nil where a size is not known.
    public var stateBytes: Int? {
        let count = layers.count(where: \.kind.carriesState)
        guard count > 0 else { return 0 }
        guard let size = Self.stateSize(architecture, dimensions) else { return nil }
        return size.multiplied(clamped: 4 * count)
    }

    /// Numbers in the state of a layer: a matrix a head, and what token shifts keep.
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

/// Where tensors, configuration and architecture do not go together.
public struct ModelFinding: Sendable, Hashable {
    /// What it is about.
    public enum Kind: String, Sendable {
        /// A tensor that the architecture has is not there.
        case missing
        /// A tensor is there that the architecture has not.
        case unexpected
        /// A tensor is there that is another model's, beside the text model.
        case otherModel = "other_model"
        /// A tensor has other sizes than its role.
        case shape
        /// Two sources say different things.
        case contradiction
        /// The configuration asks for what the architecture is not described with.
        case undescribed
    }

    /// What it is about.
    public let kind: Kind
    /// The tensor concerned.
    public let tensor: String?
    /// All of it, as a sentence.
    public let message: String

    /// How many of a kind are kept: more than anybody reads.
    public static let limit = 1000
}

/// What a tensor is for, and in which layer.
public struct TensorPlace: Sendable, Hashable {
    /// What it is for.
    public let role: TensorRole
    /// The number of its layer; nil for those of the model as a whole.
    public let layer: Int?

    /// A place in a model.
    public init(role: TensorRole, layer: Int? = nil) {
        self.role = role
        self.layer = layer
    }
}

/// Where a checkpoint has what a role needs.
public struct TensorBinding: Sendable, Hashable {
    /// The tensor's position in the checkpoint.
    public let position: Int
    /// The rows of it; nil for all.
    public let rows: Range<Int>?

    /// A binding.
    package init(position: Int, rows: Range<Int>? = nil) {
        self.position = position
        self.rows = rows
    }
}
