/// A decoder layer: a token mixer and a feed-forward block, each added to the residual stream.
public struct LayerSpec: Sendable, Hashable {
    /// The token mixer of a layer.
    public enum Mixer: Sendable, Hashable {
        case attention(Attention)
        case timeMix(TimeMix7)

        /// The kind of a layer with this mixer, as plans and reports write it.
        var kind: LayerKind {
            switch self {
            case .attention(let attention): attention.isMultiHead ? .mha : .gqa
            case .timeMix: .rwkv7
            }
        }
    }

    /// Where a block has norms: on its input, on its output before the residual addition, or on both.
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
    /// Where the mixer has norms.
    public internal(set) var mixerNorms: NormPlacement
    /// The block after the mixer.
    public internal(set) var feedForward: FeedForwardSpec
    /// Where the feed-forward block has norms.
    public internal(set) var feedForwardNorms: NormPlacement
    /// The rotary embedding of queries and keys, or of receptance and keys; nil if there is none, or it is not known.
    public internal(set) var rotation: RotaryEmbedding?

    /// The layer's kind, as plans and reports write it.
    public var kind: LayerKind { mixer.kind }

    /// The layer's softmax attention; nil for time mixing.
    ///
    /// Setting this property has no effect on a layer of time mixing.
    public internal(set) var attention: Attention? {
        get { if case .attention(let attention) = mixer { attention } else { nil } }
        set { if let newValue, attention != nil { mixer = .attention(newValue) } }
    }

    /// The layer's time mixing; nil for attention.
    public var timeMix: TimeMix7? { if case .timeMix(let timeMix) = mixer { timeMix } else { nil } }

    /// Returns the roles of the layer's tensors, given the kind of norm.
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
