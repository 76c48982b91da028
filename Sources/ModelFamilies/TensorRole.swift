/// What a tensor is for: the one key by which layouts, conversions and adapters speak of tensors.
///
/// The raw value is how a role is written in documents. Sizes are those of ``Dimension``; of linear parts `[out, in]`, of the low-rank
/// matrices `[in, out]`, as RWKV's own code stores them.
public enum TensorRole: String, Sendable, CaseIterable {
    // Of the model.

    /// Embedding rows: [V, C].
    case embedding
    /// LayerNorm of the embedding (ln0): [C].
    case embeddingNormWeight = "embedding_norm.weight"
    case embeddingNormBias = "embedding_norm.bias"
    /// Norm in front of the head: [C].
    case finalNormWeight = "final_norm.weight"
    case finalNormBias = "final_norm.bias"
    /// Logits: [V, C].
    case head

    // Of every layer.

    /// Norm in front of attention or time mixing: [C].
    case mixerNormWeight = "mixer_norm.weight"
    case mixerNormBias = "mixer_norm.bias"
    /// Norm in front of the feed-forward part: [C].
    case feedForwardNormWeight = "feed_forward_norm.weight"
    case feedForwardNormBias = "feed_forward_norm.bias"

    // Softmax attention.

    /// [A, C], and [A].
    case queryWeight = "query.weight"
    case queryBias = "query.bias"
    /// [Hk N, C], and [Hk N].
    case keyWeight = "key.weight"
    case keyBias = "key.bias"
    case valueWeight = "value.weight"
    case valueBias = "value.bias"
    /// [C, A], and [C].
    case outputWeight = "output.weight"
    case outputBias = "output.bias"
    /// RMSNorm of each head: [N].
    case queryNorm = "query_norm"
    case keyNorm = "key_norm"

    // Time mixing.

    /// [A, C], and [A].
    case receptanceWeight = "receptance.weight"
    case receptanceBias = "receptance.bias"
    /// [Hk N, C], and [Hk N].
    case timeMixKeyWeight = "time_mix_key.weight"
    case timeMixKeyBias = "time_mix_key.bias"
    case timeMixValueWeight = "time_mix_value.weight"
    case timeMixValueBias = "time_mix_value.bias"
    /// [C, A], and [C].
    case timeMixOutputWeight = "time_mix_output.weight"
    case timeMixOutputBias = "time_mix_output.bias"
    /// RMSNorm of each head of receptance and key: [N].
    case receptanceNorm = "receptance_norm"
    case timeMixKeyNorm = "time_mix_key_norm"
    /// How much of the previous token each input takes (x_r, ...): [C].
    case shiftReceptance = "shift.receptance"
    case shiftDecay = "shift.decay"
    case shiftKey = "shift.key"
    case shiftValue = "shift.value"
    case shiftICLR = "shift.iclr"
    case shiftGate = "shift.gate"
    /// Decay (w0, w1, w2): [A], [C, D], [D, A].
    case decayBase = "decay.base"
    case decayDown = "decay.down"
    case decayUp = "decay.up"
    /// In-context learning rate (a0, a1, a2).
    case iclrBase = "iclr.base"
    case iclrDown = "iclr.down"
    case iclrUp = "iclr.up"
    /// Share of the first layer's values (v0, v1, v2): ..., [D, A] or [D, Hk N].
    case valueResidualBase = "value_residual.base"
    case valueResidualDown = "value_residual.down"
    case valueResidualUp = "value_residual.up"
    /// Share of the first layer's keys (k0, k1, k2): ..., [D, Hk N].
    case keyResidualBase = "key_residual.base"
    case keyResidualDown = "key_residual.down"
    case keyResidualUp = "key_residual.up"
    /// Output gate (g1, g2).
    case gateDown = "gate.down"
    case gateUp = "gate.up"
    /// Scale of the removal key (k_k): [A].
    case removalKeyScale = "removal_key_scale"
    /// How much the in-context learning rate scales the key (k_a): [A].
    case keyICLRMix = "key_iclr_mix"
    /// Bonus of the current token (r_k): [H, N].
    case bonus
    /// GroupNorm of the heads' output (ln_x): [A].
    case groupNormWeight = "group_norm.weight"
    case groupNormBias = "group_norm.bias"
    /// Scalars that RWKVInside leaves in a layer; not to be relied on.
    case architectureRecord = "architecture_record"
    case headSizeRecord = "head_size_record"

    // Feed-forward.

    /// SwiGLU: [F, C], [F, C], [C, F].
    case feedForwardGate = "feed_forward.gate"
    case feedForwardUp = "feed_forward.up"
    case feedForwardDown = "feed_forward.down"
    /// Channel mixing: [C], [F, C], [C, F].
    case channelMixShift = "channel_mix.shift"
    case channelMixKey = "channel_mix.key"
    case channelMixValue = "channel_mix.value"

    /// What its sizes stand for.
    public var shape: [Dimension] {
        switch self {
        case .embedding, .head: [.vocabulary, .width]
        case .embeddingNormWeight, .embeddingNormBias, .finalNormWeight, .finalNormBias, .mixerNormWeight,
            .mixerNormBias,
            .feedForwardNormWeight, .feedForwardNormBias, .outputBias, .timeMixOutputBias, .shiftReceptance,
            .shiftDecay,
            .shiftKey, .shiftValue, .shiftICLR, .shiftGate, .channelMixShift:
            [.width]
        case .queryWeight, .receptanceWeight: [.attentionWidth, .width]
        case .queryBias, .receptanceBias, .decayBase, .iclrBase, .removalKeyScale, .keyICLRMix, .groupNormWeight,
            .groupNormBias:
            [.attentionWidth]
        case .keyWeight, .valueWeight, .timeMixKeyWeight, .timeMixValueWeight: [.keyValueWidth, .width]
        case .keyBias, .valueBias, .timeMixKeyBias, .timeMixValueBias, .keyResidualBase: [.keyValueWidth]
        case .outputWeight, .timeMixOutputWeight: [.width, .attentionWidth]
        case .queryNorm, .keyNorm, .receptanceNorm, .timeMixKeyNorm: [.headSize]
        case .decayDown: [.width, .decayRank]
        case .decayUp: [.decayRank, .attentionWidth]
        case .iclrDown: [.width, .iclrRank]
        case .iclrUp: [.iclrRank, .attentionWidth]
        case .valueResidualBase: [.valueResidualWidth]
        case .valueResidualDown: [.width, .valueResidualRank]
        case .valueResidualUp: [.valueResidualRank, .valueResidualWidth]
        case .keyResidualDown: [.width, .keyResidualRank]
        case .keyResidualUp: [.keyResidualRank, .keyValueWidth]
        case .gateDown: [.width, .gateRank]
        case .gateUp: [.gateRank, .attentionWidth]
        case .bonus: [.heads, .headSize]
        case .architectureRecord, .headSizeRecord: []
        case .feedForwardGate, .feedForwardUp, .channelMixKey: [.feedForwardWidth, .width]
        case .feedForwardDown, .channelMixValue: [.width, .feedForwardWidth]
        }
    }

    /// Whether its matrix is [inputs, outputs], as RWKV's own code stores low-rank matrices, and not [outputs, inputs].
    public var isByInput: Bool {
        switch self {
        case .decayDown, .decayUp, .iclrDown, .iclrUp, .valueResidualDown, .valueResidualUp, .keyResidualDown,
            .keyResidualUp, .gateDown, .gateUp:
            true
        default: false
        }
    }

    /// What becomes of it when attention is turned into time mixing, and the other way round; nil where it is neither's counterpart.
    public var counterpart: TensorRole? { Self.counterparts[self] }

    private static let counterparts: [TensorRole: TensorRole] = {
        let pairs: [(TensorRole, TensorRole)] = [
            (.receptanceWeight, .queryWeight), (.receptanceBias, .queryBias), (.receptanceNorm, .queryNorm),
            (.timeMixKeyWeight, .keyWeight), (.timeMixKeyBias, .keyBias), (.timeMixKeyNorm, .keyNorm),
            (.timeMixValueWeight, .valueWeight), (.timeMixValueBias, .valueBias),
            (.timeMixOutputWeight, .outputWeight), (.timeMixOutputBias, .outputBias),
        ]
        return Dictionary(uniqueKeysWithValues: pairs + pairs.map { ($1, $0) })
    }()

    /// The parts of a model by which parameters are counted; a norm belongs to what it stands in front of.
    public enum Part: String, Sendable, CaseIterable {
        case embeddings
        case mixer
        case mlp
        case head
    }

    /// The part that it belongs to.
    public var part: Part {
        switch self {
        case .embedding, .embeddingNormWeight, .embeddingNormBias: .embeddings
        case .finalNormWeight, .finalNormBias, .head: .head
        case .feedForwardNormWeight, .feedForwardNormBias, .feedForwardGate, .feedForwardUp, .feedForwardDown,
            .channelMixShift, .channelMixKey, .channelMixValue:
            .mlp
        default: .mixer
        }
    }

    /// Whether there is one in every layer, not one in the model.
    public var isOfLayer: Bool {
        switch self {
        case .embedding, .embeddingNormWeight, .embeddingNormBias, .finalNormWeight, .finalNormBias, .head: false
        default: true
        }
    }
}
