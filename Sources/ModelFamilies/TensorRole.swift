package import CheckpointJSON

/// What a tensor is for: the key by which layouts, conversions and adapters refer to tensors.
///
/// Each kind of block declares its roles next to its equations. Shapes are given as ``Dimension`` values: linear
/// weights are `[out, in]`, low-rank matrices `[in, out]`, as RWKV's own code stores them.
public struct TensorRole: Sendable {
    /// The role's name in plans and reports, such as `decay.base`.
    public let rawValue: String
    /// The tensor's shape, before a layout's transform.
    public let shape: [Dimension]
    /// The part of a model under which its parameters are counted.
    public let part: Part
    /// Whether the matrix is [inputs, outputs], as RWKV's own code stores low-rank matrices, and not [outputs, inputs].
    public let isInputMajor: Bool
    /// Whether the tensor belongs to a layer, and not to the model as a whole.
    public let isPerLayer: Bool

    /// The parts of a model by which parameters are counted; a norm belongs to the block whose input or output it
    /// normalises.
    public enum Part: String, Sendable, CaseIterable {
        case embeddings
        case mixer
        case mlp
        case head
    }

    init(
        _ rawValue: String, _ shape: [Dimension], _ part: Part, isInputMajor: Bool = false, isPerLayer: Bool = true
    ) {
        self.rawValue = rawValue
        self.shape = shape
        self.part = part
        self.isInputMajor = isInputMajor
        self.isPerLayer = isPerLayer
    }

    /// All roles: first those outside layers, then those of a layer, block by block.
    public static let all =
        [
            embedding, embeddingNormWeight, embeddingNormBias, finalNormWeight, finalNormBias, head, mixerNormWeight,
            mixerNormBias, mixerPostNormWeight, feedForwardNormWeight, feedForwardNormBias, feedForwardPostNormWeight,
        ] + Attention.allRoles + TimeMix7.allRoles + FeedForwardSpec.allRoles

    /// Finds the role with this name in plans and reports; nil if there is none.
    package init?(_ rawValue: ByteString) {
        guard let role = Self.all.first(where: { ByteString($0.rawValue) == rawValue }) else { return nil }
        self = role
    }
}

extension TensorRole: Hashable {
    /// Returns whether two roles have the same name.
    public static func == (a: TensorRole, b: TensorRole) -> Bool { a.rawValue == b.rawValue }

    /// Hashes the name, which is the only property that is compared.
    public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }
}

// Roles outside attention, time mixing and feed-forward blocks.
extension TensorRole {
    /// Embedding rows: [V, C].
    public static let embedding = TensorRole("embedding", [.vocabulary, .width], .embeddings, isPerLayer: false)
    /// Weight of the embedding's LayerNorm (ln0): [C].
    public static let embeddingNormWeight = TensorRole(
        "embedding_norm.weight", [.width], .embeddings, isPerLayer: false)
    /// Bias of the embedding's LayerNorm: [C].
    public static let embeddingNormBias = TensorRole("embedding_norm.bias", [.width], .embeddings, isPerLayer: false)
    /// Weight of the norm before the head: [C].
    public static let finalNormWeight = TensorRole("final_norm.weight", [.width], .head, isPerLayer: false)
    /// Bias of the norm before the head: [C].
    public static let finalNormBias = TensorRole("final_norm.bias", [.width], .head, isPerLayer: false)
    /// Weight of the head, which computes the logits: [V, C].
    public static let head = TensorRole("head", [.vocabulary, .width], .head, isPerLayer: false)

    /// Weight of the norm before attention or time mixing: [C].
    public static let mixerNormWeight = TensorRole("mixer_norm.weight", [.width], .mixer)
    /// Bias of the norm before attention or time mixing: [C].
    public static let mixerNormBias = TensorRole("mixer_norm.bias", [.width], .mixer)
    /// Weight of the norm after attention or time mixing: [C].
    public static let mixerPostNormWeight = TensorRole("mixer_post_norm.weight", [.width], .mixer)
    /// Weight of the norm after the feed-forward block: [C].
    public static let feedForwardPostNormWeight = TensorRole("feed_forward_post_norm.weight", [.width], .mlp)
    /// Weight of the norm before the feed-forward block: [C].
    public static let feedForwardNormWeight = TensorRole("feed_forward_norm.weight", [.width], .mlp)
    /// Bias of the norm before the feed-forward block: [C].
    public static let feedForwardNormBias = TensorRole("feed_forward_norm.bias", [.width], .mlp)
}
