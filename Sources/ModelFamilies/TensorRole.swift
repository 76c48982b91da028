package import Bytes

/// The function of a tensor in a model, such as the query projection of attention.
///
/// Layouts, conversions and adapters use roles to refer to tensors. Each kind of block declares its roles next to its
/// equations. The shape of a role is a list of ``ModelDimension`` values: linear weights have the shape `[out, in]`, and
/// low-rank matrices have the shape `[in, out]`, as in RWKV's own code.
public struct TensorRole: Sendable {
    /// The role's name in plans and reports, such as `decay.base`.
    public let rawValue: String
    /// The shape of the tensor, before a layout's transform is applied.
    public let shape: [ModelDimension]
    /// The part of the model that the tensor's parameters count towards.
    public let part: Part
    /// Whether the matrix has the shape [inputs, outputs] instead of [outputs, inputs].
    ///
    /// This is how RWKV's own code stores low-rank matrices.
    public let isInputMajor: Bool
    /// Whether each layer has its own tensor with this role, as opposed to one tensor for the model.
    public let isPerLayer: Bool

    /// A part of a model, for counting parameters.
    ///
    /// A norm belongs to the same part as the block whose input or output it normalises.
    public enum Part: String, Sendable, CaseIterable {
        case embeddings
        case mixer
        case mlp
        case head
    }

    init(
        _ rawValue: String, _ shape: [ModelDimension], _ part: Part, isInputMajor: Bool = false, isPerLayer: Bool = true
    ) {
        self.rawValue = rawValue
        self.shape = shape
        self.part = part
        self.isInputMajor = isInputMajor
        self.isPerLayer = isPerLayer
    }

    /// All roles: first the roles outside layers, then the roles of a layer, block by block.
    public static let all =
        [
            embedding, embeddingNormWeight, embeddingNormBias, finalNormWeight, finalNormBias, head, mixerNormWeight,
            mixerNormBias, mixerPostNormWeight, feedForwardNormWeight, feedForwardNormBias, feedForwardPostNormWeight,
        ] + Attention.allRoles + TimeMixSpec.allRoles + FeedForwardSpec.allRoles

    /// Creates the role with a given name from a plan or report.
    ///
    /// Returns nil if there is no such role.
    package init?(_ rawValue: ByteString) {
        guard let role = Self.all.first(where: { ByteString($0.rawValue) == rawValue }) else { return nil }
        self = role
    }
}

extension TensorRole: Hashable {
    /// Returns whether two roles have the same name.
    public static func == (a: TensorRole, b: TensorRole) -> Bool { a.rawValue == b.rawValue }

    /// Hashes the role's name, which is the only property that `==` compares.
    public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }
}

// The roles of the embedding, the head and the norms.
extension TensorRole {
    /// The embedding matrix, with shape [V, C].
    public static let embedding = TensorRole("embedding", [.vocabulary, .width], .embeddings, isPerLayer: false)
    /// The weight of the embedding's LayerNorm (ln0), with shape [C].
    public static let embeddingNormWeight = TensorRole(
        "embedding_norm.weight", [.width], .embeddings, isPerLayer: false)
    /// The bias of the embedding's LayerNorm, with shape [C].
    public static let embeddingNormBias = TensorRole("embedding_norm.bias", [.width], .embeddings, isPerLayer: false)
    /// The weight of the norm before the head, with shape [C].
    public static let finalNormWeight = TensorRole("final_norm.weight", [.width], .head, isPerLayer: false)
    /// The bias of the norm before the head, with shape [C].
    public static let finalNormBias = TensorRole("final_norm.bias", [.width], .head, isPerLayer: false)
    /// The weight of the head, which computes the logits, with shape [V, C].
    public static let head = TensorRole("head", [.vocabulary, .width], .head, isPerLayer: false)

    /// The weight of the norm before attention or time mixing, with shape [C].
    public static let mixerNormWeight = TensorRole("mixer_norm.weight", [.width], .mixer)
    /// The bias of the norm before attention or time mixing, with shape [C].
    public static let mixerNormBias = TensorRole("mixer_norm.bias", [.width], .mixer)
    /// The weight of the norm after attention or time mixing, with shape [C].
    public static let mixerPostNormWeight = TensorRole("mixer_post_norm.weight", [.width], .mixer)
    /// The weight of the norm after the feed-forward block, with shape [C].
    public static let feedForwardPostNormWeight = TensorRole("feed_forward_post_norm.weight", [.width], .mlp)
    /// The weight of the norm before the feed-forward block, with shape [C].
    public static let feedForwardNormWeight = TensorRole("feed_forward_norm.weight", [.width], .mlp)
    /// The bias of the norm before the feed-forward block, with shape [C].
    public static let feedForwardNormBias = TensorRole("feed_forward_norm.bias", [.width], .mlp)
}
