import Bytes
import CheckpointFiles

/// A description of a model: its family, its layers, its sizes, and the constants of its equations.
///
/// Some of these can be unknown.
public struct ModelDescription: Sendable {
    /// The architecture of the family, resolved with the settings in config.json.
    public internal(set) var architecture: Architecture
    /// The evidence from which the model was recognised, as a list of clauses.
    public let evidence: [String]
    /// The layout of the model's tensors, or nil if there are no tensors.
    public internal(set) var layout: TensorLayout?
    /// The sizes of the model.
    public let dimensions: ModelDimensions
    /// The layers, from first to last.
    public internal(set) var layers: [LayerSpec]
    /// The kinds of the layers, from first to last.
    public var kinds: [LayerKind] { layers.map(\.kind) }
    /// The epsilon of the norms, or nil if it is not known.
    public let epsilon: Double?
    /// The rotary embedding that config.json sets, or nil if there is none.
    ///
    /// Individual layers can have a different rotary embedding.
    public let rotary: RotaryEmbedding?
    /// Whether attention layers use RoPE.
    public internal(set) var attentionUsesRoPE: Bool
    /// The rule that determines which layer provides the first values and keys, which later layers mix in.
    public internal(set) var firstValues: FirstValuesLayer
    /// Whether RoPE scaling applies to time mixing as well as to attention.
    public let scalesTimeMixingRoPE: Bool
    /// Whether the embeddings are tied, so that the head shares the embedding matrix.
    public internal(set) var hasTiedHead: Bool
    /// The optional roles for which the model has tensors.
    public internal(set) var optionalRoles: Set<TensorRole>
    /// Whether the first time-mixing layer stores value and key residuals, which are not used.
    public internal(set) var storesUnusedResiduals: Bool
    /// The logit softcap, or nil for no softcap.
    ///
    /// Logits become cap tanh(logit / cap).
    public let logitSoftcap: Double?
    /// The tensor, or the rows of a tensor, that contains the weights of each place.
    public let bindings: [TensorPlace: TensorBinding]
    /// The quantisation of the weights, or nil if they are not quantised.
    public let quantisation: Quantisation?
    /// Disagreements between the tensors, the configuration and the architecture.
    public let findings: [ModelFinding]
    /// The total number of findings, of which at most ``ModelFinding/limit`` of each kind are kept.
    public let findingCount: Int
    /// The titles of dimensions and the config.json keys that the equations need but whose values are not known.
    public let unknown: [String]

    /// The name of the variant, or nil if the family has no variants.
    public var variant: String? { architecture.variant(of: kinds) }

    /// Returns whether a configuration names this model's architecture.
    package func isNamed(by configuration: ModelConfiguration) -> Bool { configuration.names(architecture) }

    /// The epsilon of the GroupNorm on the heads' output, or nil if there is none or if a required value is not known.
    public var groupNormEpsilon: Double? {
        guard case .groupNorm(let kind)? = architecture.timeMix?.outputNorm else { return nil }
        let size = dimensions[.headSize].map { Double($0) }
        switch kind {
        // RWKV-LM uses 64e-5. For RWKV-5, it divides by 8 first and uses 1e-5, which is the same. In contrast,
        // flash-linear-attention uses norm_eps times the head size for RWKV-7. The two agree if norm_eps is 1e-5 and
        // the head size is 64.
        case .standard where layout?.name == TensorLayout.fla.name:
            guard let epsilon, let size else { return nil }
            return epsilon * size
        case .standard: return 64e-5
        case .ofHeadSize: return size.map { 1e-5 * $0 }
        case .ofHeadSizeSquared: return size.map { 1e-5 * $0 * $0 }
        case .ofNorms: return epsilon
        }
    }

    /// The index of the layer that provides the first values and keys, or nil if there is none.
    ///
    /// This layer does not mix in values and keys itself.
    package var layerOfFirstValues: Int? {
        architecture.timeMix?.mixesFirstValues == true ? firstValues.layer(of: kinds) : nil
    }

    /// The rule for which layer provides the first values and keys, which later layers mix in.
    public enum FirstValuesLayer: String, Sendable, CaseIterable {
        /// The first time-mixing layer, regardless of its index.
        case firstTimeMixing = "first_rwkv_layer"
        /// Layer 0, even if it is an attention layer.
        case layer0 = "layer_0"

        /// Returns the index of the providing layer in a model with layers of these kinds, or nil if there is none.
        func layer(of kinds: [LayerKind]) -> Int? { self == .layer0 ? 0 : kinds.firstIndex(where: \.carriesState) }
    }

    /// A tensor that the described model has.
    public struct ExpectedTensor: Sendable {
        /// The tensor's role.
        public let role: TensorRole
        /// The index of the tensor's layer, or nil for a tensor outside layers.
        public let layer: Int?
        /// The shape of the tensor's role, before a layout's transform is applied, or nil if a size is not known.
        public let shape: [Int]?
    }

    /// The tensors of the model.
    ///
    /// Tensors outside layers come first, followed by those of each layer. Within each group, the tensors are in the
    /// order of ``TensorRole/all``.
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

    /// The number of parameters in each part, or nil if a size is not known.
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

    /// The total number of parameters, or nil if a size is not known.
    public var parameterCount: Int? { parameterCounts?.values.reduce(0) { $0.adding(clamped: $1) } }

    /// The number of bytes that each token adds to the KV caches of layers without a window, or nil if a size is not
    /// known.
    ///
    /// Keys and values are in bf16.
    public var cacheBytesPerToken: Int? {
        let count = layers.count { $0.kind.hasCache && $0.attention?.window == nil }
        guard count > 0 else { return 0 }
        return cacheBytesOfLayer.map { $0.multiplied(clamped: count) }
    }

    /// The number of bytes per token in the KV caches of layers with a window, keyed by window length in tokens.
    ///
    /// Keys and values are in bf16.
    public var cacheBytesByWindow: [Int: Int] {
        layers.compactMap(\.attention?.window).reduce(into: [:]) { bytes, window in
            bytes[window] = (cacheBytesOfLayer ?? 0).adding(clamped: bytes[window] ?? 0)
        }
    }

    /// The number of bytes that each token adds to the bf16 KV cache of one layer, or nil if a size is not known.
    package var cacheBytesOfLayer: Int? { dimensions[.keyValueWidth].map { $0.multiplied(clamped: 4) } }

    /// The number of bytes in the fp32 state of all recurrent layers, or nil if a size is not known.
    ///
    /// The size of the state does not depend on the context length.
    public var stateBytes: Int? {
        let count = layers.count(where: \.kind.carriesState)
        guard count > 0 else { return 0 }
        guard let size = Self.stateSize(architecture, dimensions) else { return nil }
        return size.multiplied(clamped: 4 * count)
    }

    /// Returns the number of values in the state of a layer: N x N for each head, and C for each token shift.
    private static func stateSize(_ architecture: Architecture, _ dimensions: ModelDimensions) -> Int? {
        guard let heads = dimensions[.heads], let size = dimensions[.headSize], let width = dimensions[.width] else {
            return nil
        }
        let shifts =
            (architecture.timeMix?.shiftsTokens == true ? 1 : 0) + (architecture.body.feedForward.shiftsTokens ? 1 : 0)
        return heads.multiplied(clamped: size).multiplied(clamped: size).adding(
            clamped: width.multiplied(clamped: shifts))
    }
}

/// A disagreement between the tensors, the configuration and the architecture.
public struct ModelFinding: Sendable, Hashable {
    /// A kind of disagreement.
    public enum Kind: String, Sendable {
        /// A tensor that the model requires is missing.
        case missing
        /// A tensor is present that is not part of the architecture, or whose role another tensor already has.
        case unexpected
        /// A tensor is present that does not belong to the text model.
        case otherModel = "other_model"
        /// The shape of a tensor differs from the shape of its role, or cannot be checked.
        case shape
        /// Two sources of information disagree.
        case contradiction
        /// The model has settings or tensors that are not implemented for the architecture.
        case undescribed
    }

    /// The kind of disagreement.
    public let kind: Kind
    /// The name of the tensor concerned, or nil if the finding is not about a particular tensor.
    public let tensor: String?
    /// A clause that describes the finding.
    public let message: String

    /// The maximum number of findings of each kind that are kept.
    public static let limit = 1000
}

/// The role of a tensor and the layer that it belongs to.
public struct TensorPlace: Sendable, Hashable {
    /// The tensor's role.
    public let role: TensorRole
    /// The index of the tensor's layer, or nil for a tensor outside layers.
    public let layer: Int?

    /// Creates a place from a role and a layer.
    public init(role: TensorRole, layer: Int? = nil) {
        self.role = role
        self.layer = layer
    }
}

/// The tensor in a checkpoint, or the rows of a tensor, that contains the weights of a role.
public struct TensorBinding: Sendable, Hashable {
    /// The tensor's position in the checkpoint.
    public let position: Int
    /// The rows of the tensor that belong to the role, or nil if all rows do.
    public let rows: Range<Int>?

    /// Creates a binding to a tensor, or to some of its rows.
    package init(position: Int, rows: Range<Int>? = nil) {
        self.position = position
        self.rows = rows
    }
}
