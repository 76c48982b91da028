/// Time mixing with the recurrence of RWKV-7, described stage by stage:
/// `S = S diag(w) - (S kk)(kk * a)^T + v k^T`, `y = S r` (RWKV-LM, RWKV-v7).
///
/// With p = w0 + tanh(x w1) w2 and omega = -softplus(-p) - 1/2, the decay is w = exp(-exp(omega)); the in-context
/// learning rate is a = sigmoid(a0 + x a1 a2).
public struct TimeMix7: Sendable, Hashable {
    /// The input of the projections.
    public enum TokenShift: String, Sendable {
        /// The normalised input itself.
        case none
        /// An interpolation with the previous token's input, for each projection j: x + (previous - x) x_j.
        case lerp
    }

    /// Whether RoPE is applied to receptance and key.
    public enum Rotary: String, Sendable {
        case none
        /// As the teacher applies it to queries and keys, before keys are repeated.
        case teacher
    }

    /// Where the first layer's values are mixed in: v + (v_first - v) sigmoid(v0 + x v1 v2).
    public enum ValueResidual: String, Sendable {
        /// Before keys and values are repeated for their group of heads: v2 is [D, Hk N].
        case beforeRepeat
        /// After keys and values are repeated: v2 is [D, A].
        case afterRepeat
    }

    /// The vector that is L2-normalised, head by head, to give the removal key kk.
    public enum RemovalKey: String, Sendable {
        case key
        /// key * k_k
        case scaledKey
    }

    /// The factor on the key.
    public enum KeyScale: String, Sendable {
        /// 1 + (a - 1) k_a
        case iclr
        /// 1 - omega + a
        case oneMinusOmega
    }

    /// How the heads' output is normalised before the bonus and the gate.
    public enum OutputNorm: String, Sendable {
        /// GroupNorm over each head.
        case groupNorm
        /// y / sqrt(N)
        case headScale
    }

    /// The input of the projections.
    public var tokenShift: TokenShift
    /// Whether receptance, key and value have biases; a student has those that its teacher has.
    public var inputBias = Presence.sometimes
    /// Whether the output projection has a bias; a student has one if its teacher does.
    public var outputBias = Presence.sometimes
    /// Whether each head of receptance and key has an RMSNorm, before RoPE.
    public var headNorm: Presence
    /// Whether RoPE is applied to receptance and key.
    public var rotary: Rotary
    /// Where the first layer's values are mixed in.
    public var valueResidual: ValueResidual
    /// Whether the first layer's keys are mixed in, before keys are repeated: k + (k_first - k) sigmoid(k0 + x k1 k2).
    public var hasKeyResidual: Bool
    /// The vector that is L2-normalised to give the removal key.
    public var removalKey: RemovalKey
    /// The factor on the key.
    public var keyScale: KeyScale
    /// How the heads' output is normalised.
    public var outputNorm: OutputNorm
    /// Whether the first time-mixing layer also has value and key residuals, which nothing uses.
    public var storesUnusedResiduals = true
    /// Whether layers may have the scalars that RWKVInside's trainer saves in every layer.
    public var hasRecords = false

    /// The ranks of the low-rank parts.
    public var ranks: Set<Dimension> {
        Set(roles.all.flatMap(\.shape)).intersection(Dimension.ranks)
    }

    /// Returns the rotary embedding of receptance and key, derived from the teacher's for queries and keys; nil if
    /// unused.
    ///
    /// - Parameters:
    ///   - teacher: the rotary embedding of the teacher's layer.
    ///   - isScaled: whether the teacher's RoPE scaling applies too.
    /// - Returns: the rotary embedding of a layer of time mixing.
    func rotation(from teacher: RotaryEmbedding?, isScaled: Bool) -> RotaryEmbedding? {
        guard rotary == .teacher else { return nil }
        let own = teacher?.ofTimeMixing
        return isScaled ? own : own?.plain
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
        if hasRecords { roles.add([.architectureRecord, .headSizeRecord], .sometimes) }
        return roles
    }

    /// The roles that a checkpoint of only trained tensors always has.
    var trainedRoles: Set<TensorRole> {
        roles.required.subtracting([.receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight])
    }

    /// The residuals' roles, which the layer that provides the first values and keys does not use.
    package var residualRoles: Set<TensorRole> {
        let values: Set<TensorRole> = [.valueResidualBase, .valueResidualDown, .valueResidualUp]
        return hasKeyResidual ? values.union([.keyResidualBase, .keyResidualDown, .keyResidualUp]) : values
    }
}

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
    /// Weight of the RMSNorm on each receptance head: [N].
    public static let receptanceNorm = TensorRole("receptance_norm", [.headSize], .mixer)
    /// Weight of the RMSNorm on each key head: [N].
    public static let timeMixKeyNorm = TensorRole("time_mix_key_norm", [.headSize], .mixer)
    /// Token-shift coefficients of receptance (x_r): [C].
    public static let shiftReceptance = TensorRole("shift.receptance", [.width], .mixer)
    /// Token-shift coefficients of the decay (x_w): [C].
    public static let shiftDecay = TensorRole("shift.decay", [.width], .mixer)
    /// Token-shift coefficients of keys (x_k): [C].
    public static let shiftKey = TensorRole("shift.key", [.width], .mixer)
    /// Token-shift coefficients of values (x_v): [C].
    public static let shiftValue = TensorRole("shift.value", [.width], .mixer)
    /// Token-shift coefficients of the in-context learning rate (x_a): [C].
    public static let shiftICLR = TensorRole("shift.iclr", [.width], .mixer)
    /// Token-shift coefficients of the gate (x_g): [C].
    public static let shiftGate = TensorRole("shift.gate", [.width], .mixer)
    /// Bias of the decay, before its nonlinearity (w0): [A].
    public static let decayBase = TensorRole("decay.base", [.attentionWidth], .mixer)
    /// First low-rank matrix of the decay (w1): [C, D].
    public static let decayDown = TensorRole("decay.down", [.width, .decayRank], .mixer, isInputMajor: true)
    /// Second low-rank matrix of the decay (w2): [D, A].
    public static let decayUp = TensorRole("decay.up", [.decayRank, .attentionWidth], .mixer, isInputMajor: true)
    /// Bias of the in-context learning rate, before the sigmoid (a0): [A].
    public static let iclrBase = TensorRole("iclr.base", [.attentionWidth], .mixer)
    /// First low-rank matrix of the in-context learning rate (a1): [C, D].
    public static let iclrDown = TensorRole("iclr.down", [.width, .iclrRank], .mixer, isInputMajor: true)
    /// Second low-rank matrix of the in-context learning rate (a2): [D, A].
    public static let iclrUp = TensorRole("iclr.up", [.iclrRank, .attentionWidth], .mixer, isInputMajor: true)
    /// Bias of the value residual, before the sigmoid (v0): [A or Hk N].
    public static let valueResidualBase = TensorRole("value_residual.base", [.valueResidualWidth], .mixer)
    /// First low-rank matrix of the value residual (v1): [C, D].
    public static let valueResidualDown = TensorRole(
        "value_residual.down", [.width, .valueResidualRank], .mixer, isInputMajor: true)
    /// Second low-rank matrix of the value residual (v2): [D, A or Hk N].
    public static let valueResidualUp = TensorRole(
        "value_residual.up", [.valueResidualRank, .valueResidualWidth], .mixer, isInputMajor: true)
    /// Bias of the key residual, before the sigmoid (k0): [Hk N].
    public static let keyResidualBase = TensorRole("key_residual.base", [.keyValueWidth], .mixer)
    /// First low-rank matrix of the key residual (k1): [C, D].
    public static let keyResidualDown = TensorRole(
        "key_residual.down", [.width, .keyResidualRank], .mixer, isInputMajor: true)
    /// Second low-rank matrix of the key residual (k2): [D, Hk N].
    public static let keyResidualUp = TensorRole(
        "key_residual.up", [.keyResidualRank, .keyValueWidth], .mixer, isInputMajor: true)
    /// First low-rank matrix of the output gate (g1): [C, D].
    public static let gateDown = TensorRole("gate.down", [.width, .gateRank], .mixer, isInputMajor: true)
    /// Second low-rank matrix of the output gate (g2): [D, A].
    public static let gateUp = TensorRole("gate.up", [.gateRank, .attentionWidth], .mixer, isInputMajor: true)
    /// Scale of the removal key (k_k): [A].
    public static let removalKeyScale = TensorRole("removal_key_scale", [.attentionWidth], .mixer)
    /// How much the in-context learning rate scales the key (k_a): [A].
    public static let keyICLRMix = TensorRole("key_iclr_mix", [.attentionWidth], .mixer)
    /// Weight of the current token's bonus (r_k): [H, N].
    public static let bonus = TensorRole("bonus", [.heads, .headSize], .mixer)
    /// Weight of the GroupNorm on the heads' output (ln_x): [A].
    public static let groupNormWeight = TensorRole("group_norm.weight", [.attentionWidth], .mixer)
    /// Bias of the GroupNorm on the heads' output: [A].
    public static let groupNormBias = TensorRole("group_norm.bias", [.attentionWidth], .mixer)
    /// The scalar `layer_architecture` that RWKVInside saves in a layer; its value is unreliable.
    public static let architectureRecord = TensorRole("architecture_record", [], .mixer)
    /// The scalar `head_size_record` that RWKVInside saves in a layer; its value is unreliable.
    public static let headSizeRecord = TensorRole("head_size_record", [], .mixer)

    /// The RMSNorms on query and key heads.
    package static let headNorms: Set<TensorRole> = [.queryNorm, .keyNorm]

    /// Returns whether the query scale is folded into this tensor: receptance's norm, or without one, its projection.
    package func takesQueryScale(hasNorm: Bool) -> Bool {
        hasNorm ? self == .receptanceNorm : self == .receptanceWeight || self == .receptanceBias
    }

    /// The role that this one becomes when attention is converted to time mixing, or the reverse; nil if it has no
    /// counterpart.
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
