/// Time mixing around the recurrence of RWKV-7, stage by stage:
/// `S = S diag(w) - (S kk)(kk * a)^T + v k^T`, `y = S r` (RWKV-LM, RWKV-v7).
///
/// With p = w0 + tanh(x w1) w2 and omega = -softplus(-p) - 1/2 the decay is w = exp(-exp(omega)), and the in-context learning rate
/// a = sigmoid(a0 + x a1 a2).
public struct TimeMix7: Sendable, Hashable {
    /// What the projections see.
    public enum TokenShift: String, Sendable {
        /// The normed input itself.
        case none
        /// Of each input a share of the previous token's: x + (previous - x) x_j.
        case lerp
    }

    /// How receptance and key are turned.
    public enum Rotary: String, Sendable {
        case none
        /// As the teacher's queries and keys, before keys are repeated.
        case teacher
    }

    /// Where the share of the first layer's values is mixed in: v + (v_first - v) sigmoid(v0 + x v1 v2).
    public enum ValueResidual: String, Sendable {
        /// Before keys and values are repeated for their group of heads: v2 is [D, Hk N].
        case beforeRepeat
        /// After keys and values are repeated: v2 is [D, A].
        case afterRepeat
    }

    /// What is normed to become the removal key kk.
    public enum RemovalKey: String, Sendable {
        case key
        /// key * k_k
        case scaledKey
    }

    /// What the key is multiplied with.
    public enum KeyScale: String, Sendable {
        /// 1 + (a - 1) k_a
        case iclr
        /// 1 - omega + a
        case oneMinusOmega
    }

    /// What is done to the heads' output before the bonus and the gate.
    public enum OutputNorm: String, Sendable {
        /// GroupNorm over each head.
        case groupNorm
        /// y / sqrt(N)
        case headScale
    }

    /// What the projections see.
    public var tokenShift: TokenShift
    /// Biases of receptance, key and value: as the teacher's.
    public var inputBias = Presence.sometimes
    /// A bias of the output: as the teacher's.
    public var outputBias = Presence.sometimes
    /// RMSNorm of each head of receptance and key, before the rotation.
    public var headNorm: Presence
    /// How receptance and key are turned.
    public var rotary: Rotary
    /// Where the first layer's values are mixed in.
    public var valueResidual: ValueResidual
    /// k + (k_first - k) sigmoid(k0 + x k1 k2), before keys are repeated.
    public var hasKeyResidual: Bool
    /// What is normed to become the removal key.
    public var removalKey: RemovalKey
    /// What the key is multiplied with.
    public var keyScale: KeyScale
    /// What is done to the heads' output.
    public var outputNorm: OutputNorm
    /// Whether the first such layer has residuals too, which nothing uses.
    public var storesUnusedResiduals = true
    /// RWKVInside's trainer leaves scalars in every layer.
    public var leavesRecords = false

    /// The ranks that its low-rank parts have.
    public var ranks: Set<Dimension> {
        Set(roles.all.flatMap(\.shape)).intersection(Dimension.ranks)
    }

    /// How positions turn receptance and key, where they turn the teacher's queries and keys so; nil for not at all.
    ///
    /// - Parameters:
    ///   - teacher: the rotation of the teacher's layer.
    ///   - isStretched: whether its wavelengths are stretched too.
    /// - Returns: the rotation of a layer of time mixing.
    func rotation(from teacher: RotaryEmbedding?, isStretched: Bool) -> RotaryEmbedding? {
        guard rotary == .teacher else { return nil }
        let own = teacher?.ofTimeMixing
        return isStretched ? own : own?.plain
    }

    var roles: RoleSet {
        var roles = RoleSet([
            .receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight, .decayBase, .decayDown,
            .decayUp, .iclrBase, .iclrDown, .iclrUp, .gateDown, .gateUp, .bonus,
        ])
        roles.add([.receptanceBias, .timeMixKeyBias, .timeMixValueBias], inputBias)
        roles.add([.timeMixOutputBias], outputBias)
        roles.add([.receptanceNorm, .timeMixKeyNorm], headNorm)
        roles.add(residualRoles, .always)
        if tokenShift == .lerp {
            roles.add([.shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftICLR, .shiftGate], .always)
        }
        if removalKey == .scaledKey { roles.add([.removalKeyScale], .always) }
        if keyScale == .iclr { roles.add([.keyICLRMix], .always) }
        if outputNorm == .groupNorm { roles.add([.groupNormWeight, .groupNormBias], .always) }
        if leavesRecords { roles.add([.architectureRecord, .headSizeRecord], .sometimes) }
        return roles
    }

    /// What a file always has that holds what was trained alone.
    var trainedRoles: Set<TensorRole> {
        roles.required.subtracting([.receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight])
    }

    /// What the first such layer has no use for.
    package var residualRoles: Set<TensorRole> {
        let values: Set<TensorRole> = [.valueResidualBase, .valueResidualDown, .valueResidualUp]
        return hasKeyResidual ? values.union([.keyResidualBase, .keyResidualDown, .keyResidualUp]) : values
    }
}

// Its roles.
extension TimeMix7 {
    static let allRoles: [TensorRole] = [
        .receptanceWeight, .receptanceBias, .timeMixKeyWeight, .timeMixKeyBias, .timeMixValueWeight, .timeMixValueBias,
        .timeMixOutputWeight, .timeMixOutputBias, .receptanceNorm, .timeMixKeyNorm, .shiftReceptance, .shiftDecay,
        .shiftKey, .shiftValue, .shiftICLR, .shiftGate, .decayBase, .decayDown, .decayUp, .iclrBase, .iclrDown, .iclrUp,
        .valueResidualBase, .valueResidualDown, .valueResidualUp, .keyResidualBase, .keyResidualDown, .keyResidualUp,
        .gateDown, .gateUp, .removalKeyScale, .keyICLRMix, .bonus, .groupNormWeight, .groupNormBias,
        .architectureRecord, .headSizeRecord,
    ]
}

extension TensorRole {
    /// Receptance projection: [A, C].
    public static let receptanceWeight = TensorRole("receptance.weight", [.attentionWidth, .width], .mixer)
    /// Bias of the receptance projection: [A].
    public static let receptanceBias = TensorRole("receptance.bias", [.attentionWidth], .mixer)
    /// Key projection: [Hk N, C].
    public static let timeMixKeyWeight = TensorRole("time_mix_key.weight", [.keyValueWidth, .width], .mixer)
    /// Bias of the key projection: [Hk N].
    public static let timeMixKeyBias = TensorRole("time_mix_key.bias", [.keyValueWidth], .mixer)
    /// Value projection: [Hk N, C].
    public static let timeMixValueWeight = TensorRole("time_mix_value.weight", [.keyValueWidth, .width], .mixer)
    /// Bias of the value projection: [Hk N].
    public static let timeMixValueBias = TensorRole("time_mix_value.bias", [.keyValueWidth], .mixer)
    /// Output projection: [C, A].
    public static let timeMixOutputWeight = TensorRole("time_mix_output.weight", [.width, .attentionWidth], .mixer)
    /// Bias of the output projection: [C].
    public static let timeMixOutputBias = TensorRole("time_mix_output.bias", [.width], .mixer)
    /// RMSNorm of each head of receptance: [N].
    public static let receptanceNorm = TensorRole("receptance_norm", [.headSize], .mixer)
    /// RMSNorm of each head of keys: [N].
    public static let timeMixKeyNorm = TensorRole("time_mix_key_norm", [.headSize], .mixer)
    /// How much of the previous token receptance takes (x_r): [C].
    public static let shiftReceptance = TensorRole("shift.receptance", [.width], .mixer)
    /// How much of the previous token the decay takes (x_w): [C].
    public static let shiftDecay = TensorRole("shift.decay", [.width], .mixer)
    /// How much of the previous token keys take (x_k): [C].
    public static let shiftKey = TensorRole("shift.key", [.width], .mixer)
    /// How much of the previous token values take (x_v): [C].
    public static let shiftValue = TensorRole("shift.value", [.width], .mixer)
    /// How much of the previous token the in-context learning rate takes (x_a): [C].
    public static let shiftICLR = TensorRole("shift.iclr", [.width], .mixer)
    /// How much of the previous token the gate takes (x_g): [C].
    public static let shiftGate = TensorRole("shift.gate", [.width], .mixer)
    /// Decay for an input of zeros (w0): [A].
    public static let decayBase = TensorRole("decay.base", [.attentionWidth], .mixer)
    /// First low-rank matrix of the decay (w1): [C, D].
    public static let decayDown = TensorRole("decay.down", [.width, .decayRank], .mixer, isByInput: true)
    /// Second low-rank matrix of the decay (w2): [D, A].
    public static let decayUp = TensorRole("decay.up", [.decayRank, .attentionWidth], .mixer, isByInput: true)
    /// In-context learning rate for an input of zeros (a0): [A].
    public static let iclrBase = TensorRole("iclr.base", [.attentionWidth], .mixer)
    /// First low-rank matrix of the in-context learning rate (a1): [C, D].
    public static let iclrDown = TensorRole("iclr.down", [.width, .iclrRank], .mixer, isByInput: true)
    /// Second low-rank matrix of the in-context learning rate (a2): [D, A].
    public static let iclrUp = TensorRole("iclr.up", [.iclrRank, .attentionWidth], .mixer, isByInput: true)
    /// Share of the first layer's values for an input of zeros (v0): [A or Hk N].
    public static let valueResidualBase = TensorRole("value_residual.base", [.valueResidualWidth], .mixer)
    /// First low-rank matrix of the value residual (v1): [C, D].
    public static let valueResidualDown = TensorRole(
        "value_residual.down", [.width, .valueResidualRank], .mixer, isByInput: true)
    /// Second low-rank matrix of the value residual (v2): [D, A or Hk N].
    public static let valueResidualUp = TensorRole(
        "value_residual.up", [.valueResidualRank, .valueResidualWidth], .mixer, isByInput: true)
    /// Share of the first layer's keys for an input of zeros (k0): [Hk N].
    public static let keyResidualBase = TensorRole("key_residual.base", [.keyValueWidth], .mixer)
    /// First low-rank matrix of the key residual (k1): [C, D].
    public static let keyResidualDown = TensorRole(
        "key_residual.down", [.width, .keyResidualRank], .mixer, isByInput: true)
    /// Second low-rank matrix of the key residual (k2): [D, Hk N].
    public static let keyResidualUp = TensorRole(
        "key_residual.up", [.keyResidualRank, .keyValueWidth], .mixer, isByInput: true)
    /// First low-rank matrix of the output gate (g1): [C, D].
    public static let gateDown = TensorRole("gate.down", [.width, .gateRank], .mixer, isByInput: true)
    /// Second low-rank matrix of the output gate (g2): [D, A].
    public static let gateUp = TensorRole("gate.up", [.gateRank, .attentionWidth], .mixer, isByInput: true)
    /// Scale of the removal key (k_k): [A].
    public static let removalKeyScale = TensorRole("removal_key_scale", [.attentionWidth], .mixer)
    /// How much the in-context learning rate scales the key (k_a): [A].
    public static let keyICLRMix = TensorRole("key_iclr_mix", [.attentionWidth], .mixer)
    /// Bonus of the current token (r_k): [H, N].
    public static let bonus = TensorRole("bonus", [.heads, .headSize], .mixer)
    /// Weight of the GroupNorm of the heads' output (ln_x): [A].
    public static let groupNormWeight = TensorRole("group_norm.weight", [.attentionWidth], .mixer)
    /// Bias of the GroupNorm of the heads' output: [A].
    public static let groupNormBias = TensorRole("group_norm.bias", [.attentionWidth], .mixer)
    /// A scalar that RWKVInside leaves in a layer; not to be relied on.
    public static let architectureRecord = TensorRole("architecture_record", [], .mixer)
    /// A scalar that RWKVInside leaves in a layer; not to be relied on.
    public static let headSizeRecord = TensorRole("head_size_record", [], .mixer)

    /// RMSNorms of heads of queries and keys.
    package static let headNorms: Set<TensorRole> = [.queryNorm, .keyNorm]

    /// Whether the scale of queries is folded into it: into the norm of receptance where there is one, else into the projection.
    package func takesQueryScale(hasNorm: Bool) -> Bool {
        hasNorm ? self == .receptanceNorm : self == .receptanceWeight || self == .receptanceBias
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
}
