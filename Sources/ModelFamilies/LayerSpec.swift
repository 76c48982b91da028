/// A decoder layer, which adds the outputs of a token mixer and of a feed-forward block to the residual stream.
public struct LayerSpec: Sendable, Hashable {
    /// The token mixer of a layer: softmax attention or time mixing.
    public enum Mixer: Sendable, Hashable {
        case attention(Attention)
        case timeMix(TimeMixSpec)

        /// The kind of a layer that has this mixer.
        var kind: LayerKind {
            switch self {
            case .attention(let attention): attention.isMultiHead ? .mha : .gqa
            case .timeMix(let timeMix): timeMix.kind
            }
        }
    }

    /// The placement of a block's norms: on its input, on its output before the residual addition, or on both.
    public enum NormPlacement: Sendable, Hashable {
        case before
        case after
        case both

        /// Whether the block's input is normalised.
        package var isBefore: Bool { self != .after }
        /// Whether the block's output is normalised.
        package var isAfter: Bool { self != .before }
    }

    /// The token mixer.
    public internal(set) var mixer: Mixer
    /// The placement of the mixer's norms.
    public internal(set) var mixerNorms: NormPlacement
    /// The feed-forward block, which follows the mixer.
    public internal(set) var feedForward: FeedForwardSpec
    /// The placement of the feed-forward block's norms.
    public internal(set) var feedForwardNorms: NormPlacement
    /// The rotary embedding of queries and keys, or of receptance and keys.
    ///
    /// This property is nil if the layer does not use RoPE or if the parameters of RoPE are not known.
    public internal(set) var rotation: RotaryEmbedding?

    /// The kind of the layer, which depends on its mixer.
    public var kind: LayerKind { mixer.kind }

    /// The layer's softmax attention, or nil if the layer uses time mixing.
    ///
    /// Setting this property has no effect on a time-mixing layer. Setting it to nil has no effect on any layer.
    public internal(set) var attention: Attention? {
        get { if case .attention(let attention) = mixer { attention } else { nil } }
        set { if let newValue, attention != nil { mixer = .attention(newValue) } }
    }

    /// The layer's time mixing, or nil if the layer uses attention.
    public var timeMix: TimeMixSpec? { if case .timeMix(let timeMix) = mixer { timeMix } else { nil } }

    /// Returns the roles of the layer's tensors in a model with the given kind of norm.
    func roles(norm: DecoderBody.Norm) -> RoleSet {
        var roles = RoleSet([])
        let norms: [(NormPlacement, before: Set<TensorRole>, biases: Set<TensorRole>, after: TensorRole)] = [
            (mixerNorms, [.mixerNormWeight], [.mixerNormBias], .mixerPostNormWeight),
            (feedForwardNorms, [.feedForwardNormWeight], [.feedForwardNormBias], .feedForwardPostNormWeight),
        ]
        for (placement, before, biases, after) in norms {
            if placement.isBefore { roles.add(before.union(norm == .layer ? biases : []), .always) }
            if placement.isAfter { roles.add([after], .always) }
        }
        roles.add(feedForward.roles)
        switch mixer {
        case .attention(let attention): roles.add(attention.roles)
        case .timeMix(let timeMix): roles.add(timeMix.roles)
        }
        return roles
    }
}
