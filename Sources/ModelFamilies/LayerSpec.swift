/// What a layer is: a mixer of tokens and a feed-forward block, each of which adds to the residual stream.
public struct LayerSpec: Sendable, Hashable {
    /// What mixes tokens.
    public enum Mixer: Sendable, Hashable {
        case attention(Attention)
        case timeMix(TimeMix7)

        /// What documents call a layer of it.
        var kind: LayerKind {
            switch self {
            case .attention(let attention): attention.hasKeysForEveryHead ? .mha : .gqa
            case .timeMix: .rwkv7
            }
        }
    }

    /// Which norms a block has: of what it sees, of what it gives before that is added, or of both.
    public enum NormPlacement: Sendable, Hashable {
        case before
        case after
        case both

        /// Whether what the block sees is normed.
        package var isBefore: Bool { self != .after }
        /// Whether what the block gives is normed.
        package var isAfter: Bool { self != .before }
    }

    /// What mixes tokens.
    public internal(set) var mixer: Mixer
    /// The norms of the mixer.
    public internal(set) var mixerNorms: NormPlacement
    /// What follows.
    public internal(set) var feedForward: FeedForwardSpec
    /// The norms of the feed-forward block.
    public internal(set) var feedForwardNorms: NormPlacement
    /// How positions turn queries and keys, or receptance and keys; nil for not at all, or where that is not known.
    public internal(set) var rotation: RotaryEmbedding?

    /// What documents call it.
    public var kind: LayerKind { mixer.kind }

    /// Its softmax attention; nil where it mixes time.
    ///
    /// Setting it changes nothing there.
    public internal(set) var attention: Attention? {
        get { if case .attention(let attention) = mixer { attention } else { nil } }
        set { if let newValue, attention != nil { mixer = .attention(newValue) } }
    }

    /// Its time mixing; nil where it is attention.
    public var timeMix: TimeMix7? { if case .timeMix(let timeMix) = mixer { timeMix } else { nil } }

    /// The roles of its tensors.
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
