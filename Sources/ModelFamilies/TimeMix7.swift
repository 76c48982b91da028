/// A variant of RWKV-7 time mixing.
///
/// All variants share the recurrence `S = S diag(w) - (S kk)(kk * a)^T + v k^T`, `y = S r` (RWKV-LM, RWKV-v7).
///
/// The decay is w = exp(-exp(omega)), where omega = -softplus(-p) - 1/2 and p = w0 + tanh(x w1) w2. The in-context
/// learning rate is a = sigmoid(a0 + x a1 a2).
public struct TimeMix7: Sendable, Hashable {
    /// The input to the projections.
    public enum TokenShift: String, Sendable {
        /// The normalised input itself.
        case none
        /// An interpolation with the previous token's input: x + (previous - x) x_j for each projection j.
        case lerp
    }

    /// What is added to the values.
    ///
    /// The first layer's values are mixed in as v + (v_first - v) sigmoid(v0 + x v1 v2).
    public enum ValueResidual: String, Sendable {
        case none
        /// Before keys and values are repeated for each head of their group; v2 has shape [D, Hk N].
        case beforeRepeat
        /// After keys and values are repeated; v2 has shape [D, A].
        case afterRepeat
        /// v + 0.2 (x v1) v2, after values are repeated; independent of the first layer's values.
        case lowRank
    }

    /// The vector whose heads are L2-normalised to give the removal key kk.
    public enum RemovalKey: String, Sendable {
        case key
        /// The key, multiplied by k_k.
        case scaledKey
    }

    /// The factor by which the key is multiplied.
    public enum KeyScale: String, Sendable {
        /// The key is not scaled.
        case none = "1"
        /// 1 + (a - 1) k_a
        case iclr = "1 + (a - 1) k_a"
        /// 1 - omega + a
        case oneMinusOmega = "1 - omega + a"
        /// 1 - w + a
        case oneMinusDecay = "1 - w + a"
    }

    /// The input to the projections.
    public var tokenShift: TokenShift
    /// Whether receptance, key and value have biases.
    ///
    /// A student has the biases that its teacher has.
    public var inputBias = Presence.sometimes
    /// Whether the output projection has a bias.
    ///
    /// A student has one if its teacher has one.
    public var outputBias = Presence.sometimes
    /// Whether each receptance head and key head has an RMSNorm, which is applied before RoPE.
    public var headNorm: Presence
    /// Whether RoPE is applied to receptance and key.
    public var rotary: TimeMixSpec.Rotary
    /// What is added to the values.
    public var valueResidual: ValueResidual
    /// Whether the first layer's keys are mixed in before keys are repeated.
    ///
    /// If so, the key becomes k + (k_first - k) sigmoid(k0 + x k1 k2).
    public var hasKeyResidual: Bool
    /// The vector whose heads are L2-normalised to give the removal key.
    public var removalKey: RemovalKey
    /// The factor by which the key is multiplied.
    public var keyScale: KeyScale
    /// The normalisation of the heads' output.
    public var outputNorm: TimeMixSpec.OutputNorm
    /// The factor by which the heads' output is multiplied.
    public var gate = TimeMixSpec.Gate.lowRank
    /// Whether the sum of r k r_k over each head, times the value, is added to the head's output.
    public var hasBonus = true
    /// Whether the first time-mixing layer also has value and key residuals, which are not used.
    public var storesUnusedResiduals = true
    /// Whether layers can contain the scalars that RWKVInside's trainer saves in every layer.
    public var hasRecords = false
    /// The roles of tensors that the models' own classes create even if no stage uses them.
    public var unusedRoles: Set<TensorRole> = []

    var roles: RoleSet {
        var roles = RoleSet([
            .receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight, .decayBase, .decayDown,
            .decayUp, .iclrBase, .iclrDown, .iclrUp,
        ])
        roles.add(gate.roles, .always)
        if hasBonus { roles.add([.bonus], .always) }
        if valueResidual == .lowRank { roles.add([.valueResidualDown, .valueResidualUp], .always) }
        roles.add([.receptanceBias, .timeMixKeyBias, .timeMixValueBias], inputBias)
        roles.add([.timeMixOutputBias], outputBias)
        roles.add([.receptanceNorm, .timeMixKeyNorm], headNorm)
        roles.add(residualRoles, .always)
        if tokenShift == .lerp {
            roles.add([.shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftICLR], .always)
            if gate != .none { roles.add([.shiftGate], .always) }
        }
        if removalKey == .scaledKey { roles.add([.removalKeyScale], .always) }
        if keyScale == .iclr { roles.add([.keyICLRMix], .always) }
        roles.add(outputNorm.roles, .always)
        let records: Set<TensorRole> = [.architectureRecord, .headSizeRecord]
        for role in ignoredRoles.subtracting(roles.required).subtracting(records) { roles.add([role], .sometimes) }
        roles.allow(ignoredRoles.intersection(records))
        return roles
    }

    /// The roles of tensors that layers can contain although the equations do not use them.
    var ignoredRoles: Set<TensorRole> {
        var ignored = unusedRoles
        if hasRecords { ignored.formUnion([.architectureRecord, .headSizeRecord]) }
        // RWKVInside's trainer saves x_g even if there is no gate.
        if tokenShift == .lerp, gate == .none { ignored.insert(.shiftGate) }
        return ignored
    }

    /// The roles of the residuals that mix in the first layer's values and keys.
    ///
    /// The layer that provides the first values and keys does not use these tensors.
    var residualRoles: Set<TensorRole> {
        let keys: Set<TensorRole> =
            hasKeyResidual ? [.keyResidualBase, .keyResidualDown, .keyResidualUp] : []
        switch valueResidual {
        case .none, .lowRank: return keys
        case .beforeRepeat, .afterRepeat:
            return keys.union([.valueResidualBase, .valueResidualDown, .valueResidualUp])
        }
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
    /// The weight of the receptance projection, with shape [A, C].
    public static let receptanceWeight = TensorRole("receptance.weight", [.attentionWidth, .width], .mixer)
    /// The bias of the receptance projection, with shape [A].
    public static let receptanceBias = TensorRole("receptance.bias", [.attentionWidth], .mixer)
    /// The weight of the key projection, with shape [Hk N, C].
    public static let timeMixKeyWeight = TensorRole("time_mix_key.weight", [.keyValueWidth, .width], .mixer)
    /// The bias of the key projection, with shape [Hk N].
    public static let timeMixKeyBias = TensorRole("time_mix_key.bias", [.keyValueWidth], .mixer)
    /// The weight of the value projection, with shape [Hk N, C].
    public static let timeMixValueWeight = TensorRole("time_mix_value.weight", [.keyValueWidth, .width], .mixer)
    /// The bias of the value projection, with shape [Hk N].
    public static let timeMixValueBias = TensorRole("time_mix_value.bias", [.keyValueWidth], .mixer)
    /// The weight of the output projection, with shape [C, A].
    public static let timeMixOutputWeight = TensorRole("time_mix_output.weight", [.width, .attentionWidth], .mixer)
    /// The bias of the output projection, with shape [C].
    public static let timeMixOutputBias = TensorRole("time_mix_output.bias", [.width], .mixer)
    /// The weight of the RMSNorm on each receptance head, with shape [N].
    public static let receptanceNorm = TensorRole("receptance_norm", [.headSize], .mixer)
    /// The weight of the RMSNorm on each key head, with shape [N].
    public static let timeMixKeyNorm = TensorRole("time_mix_key_norm", [.headSize], .mixer)
    /// The token-shift coefficients for the receptance (x_r, time_maa_r, time_mix_r), with shape [C].
    public static let shiftReceptance = TensorRole("shift.receptance", [.width], .mixer)
    /// The token-shift coefficients for the decay (x_w, time_maa_w), with shape [C].
    public static let shiftDecay = TensorRole("shift.decay", [.width], .mixer)
    /// The token-shift coefficients for keys (x_k, time_maa_k, time_mix_k), with shape [C].
    public static let shiftKey = TensorRole("shift.key", [.width], .mixer)
    /// The token-shift coefficients for values (x_v, time_maa_v, time_mix_v), with shape [C].
    public static let shiftValue = TensorRole("shift.value", [.width], .mixer)
    /// The token-shift coefficients for the in-context learning rate (x_a), with shape [C].
    public static let shiftICLR = TensorRole("shift.iclr", [.width], .mixer)
    /// The token-shift coefficients for the gate (x_g, time_maa_g, time_mix_g), with shape [C].
    public static let shiftGate = TensorRole("shift.gate", [.width], .mixer)
    /// The bias of the decay before its nonlinearity (w0, time_decay), with shape [A].
    public static let decayBase = TensorRole("decay.base", [.attentionWidth], .mixer)
    /// The first low-rank matrix of the decay (w1, time_decay_w1), with shape [C, D].
    public static let decayDown = TensorRole("decay.down", [.width, .decayRank], .mixer, isInputMajor: true)
    /// The second low-rank matrix of the decay (w2, time_decay_w2), with shape [D, A].
    public static let decayUp = TensorRole("decay.up", [.decayRank, .attentionWidth], .mixer, isInputMajor: true)
    /// The bias of the in-context learning rate before the sigmoid (a0), with shape [A].
    public static let iclrBase = TensorRole("iclr.base", [.attentionWidth], .mixer)
    /// The first low-rank matrix of the in-context learning rate (a1), with shape [C, D].
    public static let iclrDown = TensorRole("iclr.down", [.width, .iclrRank], .mixer, isInputMajor: true)
    /// The second low-rank matrix of the in-context learning rate (a2), with shape [D, A].
    public static let iclrUp = TensorRole("iclr.up", [.iclrRank, .attentionWidth], .mixer, isInputMajor: true)
    /// The bias of the value residual before the sigmoid (v0), with shape [A or Hk N].
    public static let valueResidualBase = TensorRole("value_residual.base", [.valueResidualWidth], .mixer)
    /// The first low-rank matrix of the value residual (v1), with shape [C, D].
    public static let valueResidualDown = TensorRole(
        "value_residual.down", [.width, .valueResidualRank], .mixer, isInputMajor: true)
    /// The second low-rank matrix of the value residual (v2), with shape [D, A or Hk N].
    public static let valueResidualUp = TensorRole(
        "value_residual.up", [.valueResidualRank, .valueResidualWidth], .mixer, isInputMajor: true)
    /// The bias of the key residual before the sigmoid (k0), with shape [Hk N].
    public static let keyResidualBase = TensorRole("key_residual.base", [.keyValueWidth], .mixer)
    /// The first low-rank matrix of the key residual (k1), with shape [C, D].
    public static let keyResidualDown = TensorRole(
        "key_residual.down", [.width, .keyResidualRank], .mixer, isInputMajor: true)
    /// The second low-rank matrix of the key residual (k2), with shape [D, Hk N].
    public static let keyResidualUp = TensorRole(
        "key_residual.up", [.keyResidualRank, .keyValueWidth], .mixer, isInputMajor: true)
    /// The first low-rank matrix of the output gate (g1), with shape [C, D].
    public static let gateDown = TensorRole("gate.down", [.width, .gateRank], .mixer, isInputMajor: true)
    /// The second low-rank matrix of the output gate (g2), with shape [D, A].
    public static let gateUp = TensorRole("gate.up", [.gateRank, .attentionWidth], .mixer, isInputMajor: true)
    /// The scale of the removal key (k_k), with shape [A].
    public static let removalKeyScale = TensorRole("removal_key_scale", [.attentionWidth], .mixer)
    /// The extent to which the in-context learning rate scales the key (k_a), with shape [A].
    public static let keyICLRMix = TensorRole("key_iclr_mix", [.attentionWidth], .mixer)
    /// The weight of the current token's bonus (r_k, time_faaaa), with shape [H, N].
    public static let bonus = TensorRole("bonus", [.heads, .headSize], .mixer)
    /// The weight of the GroupNorm on the heads' output (ln_x), with shape [A].
    public static let groupNormWeight = TensorRole("group_norm.weight", [.attentionWidth], .mixer)
    /// The bias of the GroupNorm on the heads' output, with shape [A].
    public static let groupNormBias = TensorRole("group_norm.bias", [.attentionWidth], .mixer)
    /// The scalar `layer_architecture`, which RWKVInside saves in each layer; its value is unreliable.
    public static let architectureRecord = TensorRole("architecture_record", [], .mixer)
    /// The scalar `head_size_record`, which RWKVInside saves in each layer; its value is unreliable.
    public static let headSizeRecord = TensorRole("head_size_record", [], .mixer)

    /// The roles of the RMSNorms on query heads and key heads.
    package static let headNorms: Set<TensorRole> = [.queryNorm, .keyNorm]

    /// Returns whether a conversion folds the teacher's query scale into this tensor.
    ///
    /// The scale is folded into the receptance norm or, if there is no such norm, into the receptance projection.
    package func takesQueryScale(hasNorm: Bool) -> Bool {
        hasNorm ? self == .receptanceNorm : self == .receptanceWeight || self == .receptanceBias
    }

    /// The corresponding role after converting attention to time mixing or vice versa, or nil if there is none.
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
