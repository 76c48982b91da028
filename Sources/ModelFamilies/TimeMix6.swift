/// A variant of the time mixing of RWKV-5 and RWKV-6 (RWKV-LM, RWKV-v5/src/model.py).
///
/// All variants share the recurrence `y = S^T r + (r . u k) v`, `S = diag(w) S + k v^T`, where u is the bonus. The
/// heads' output is normalised by a GroupNorm and multiplied by silu(gate).
public struct TimeMix6: Sendable, Hashable {
    /// The input to the projections.
    public enum TokenShift: String, Sendable {
        /// RWKV-5: previous + (x - previous) mix_j for each projection j.
        case fixed
        /// RWKV-6: x + (previous - x) (maa_j + m_j) for each projection j.
        ///
        /// The m_j are tanh((x + (previous - x) maa_x) w1), which is split into five parts, times a matrix for each
        /// part.
        case dataDependent
    }

    /// The decay of the state.
    public enum Decay: String, Sendable {
        /// RWKV-5: w = exp(-exp(time_decay)), which is the same for all tokens.
        case fixed
        /// RWKV-6: w = exp(-exp(time_decay + tanh(x w1) w2)).
        case lowRank
    }

    /// The input to the projections.
    public var tokenShift: TokenShift
    /// The decay of the state.
    public var decay: Decay

    /// The kind of a layer that has this time mixing.
    var kind: LayerKind { decay == .fixed ? .rwkv5 : .rwkv6 }

    var roles: RoleSet {
        var roles = RoleSet([
            .receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight, .gateWeight, .bonus,
            .groupNormWeight, .groupNormBias, .shiftReceptance, .shiftKey, .shiftValue, .shiftGate,
        ])
        if tokenShift == .dataDependent { roles.add([.shiftInput, .shiftDecay, .shiftDown, .shiftUp], .always) }
        switch decay {
        case .fixed: roles.add([.fixedDecay], .always)
        case .lowRank: roles.add([.decayBase, .decayDown, .decayUp], .always)
        }
        return roles
    }

    /// The order of the data-dependent token shifts in the matrices with the roles `shiftDown` and `shiftUp`.
    package static let shiftOrder: [TensorRole] = [
        .shiftDecay, .shiftKey, .shiftValue, .shiftReceptance, .shiftGate,
    ]
}

extension TimeMix6 {
    /// The roles that RWKV-7 does not have.
    static let ownRoles: [TensorRole] = [.gateWeight, .shiftInput, .shiftDown, .shiftUp, .fixedDecay]
}

extension TensorRole {
    /// The weight of the gate projection, with shape [A, C].
    public static let gateWeight = TensorRole("gate.weight", [.attentionWidth, .width], .mixer)
    /// The token-shift coefficients for the input of the data-dependent token shifts (time_maa_x), with shape [C].
    public static let shiftInput = TensorRole("shift.input", [.width], .mixer)
    /// The first low-rank matrices of the data-dependent token shifts (time_maa_w1), with shape [C, 5 D].
    public static let shiftDown = TensorRole("shift.down", [.width, .shiftRanks], .mixer, isInputMajor: true)
    /// The second low-rank matrices of the data-dependent token shifts (time_maa_w2), with shape [5, D, C].
    public static let shiftUp = TensorRole("shift.up", [.shiftCount, .shiftRank, .width], .mixer, isInputMajor: true)
    /// The decay of each channel before its nonlinearity (time_decay), with shape [H, N].
    public static let fixedDecay = TensorRole("decay.fixed", [.heads, .headSize], .mixer)
}
