/// A variant of the time mixing of RWKV-5 and RWKV-6 (RWKV-LM, RWKV-v5/src/model.py; RADLADS, rwkv6qwen2).
///
/// With a bonus u, the recurrence is `y = S^T r + (r . u k) v`, `S = diag(w) S + k v^T`. Without one, the output reads
/// the updated state: `S = diag(w) S + k v^T`, `y = S^T r`.
public struct TimeMix6: Sendable, Hashable {
    /// The input to the projections.
    public enum TokenShift: String, Sendable {
        /// The normalised input itself.
        case none
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
        /// RAD-RWKV6: the same, but at least e^-5.
        case clampedLowRank
    }

    /// The input to the projections.
    public var tokenShift: TokenShift
    /// The decay of the state.
    public var decay: Decay
    /// Whether receptance, key and value have biases.
    ///
    /// A student has the biases that its teacher has.
    public var inputBias = Presence.never
    /// Whether the output projection has a bias.
    ///
    /// A student has one if its teacher has one.
    public var outputBias = Presence.never
    /// Whether RoPE is applied to receptance and key.
    public var rotary = TimeMixSpec.Rotary.none
    /// Whether several receptance heads can share a key-value head.
    public var sharesKeys = false
    /// Whether the key is multiplied by 1 - w, which keeps the size of the state independent of the decay.
    public var balancesKeys = false
    /// Whether the output reads the state before the update, and adds the current token's value with a bonus.
    public var hasBonus = true
    /// The normalisation of the heads' output.
    public var outputNorm = TimeMixSpec.OutputNorm.groupNorm(.standard)
    /// The factor of the heads' output.
    public var gate = TimeMixSpec.Gate.siluProjection
    /// The order of the data-dependent token shifts in the matrices with the roles `shiftDown` and `shiftUp`.
    package var shiftOrder: [TensorRole] = [.shiftDecay, .shiftKey, .shiftValue, .shiftReceptance, .shiftGate]
    /// The number of data-dependent token shifts.
    static let shiftCount = 5

    /// The kind of a layer that has this time mixing.
    var kind: LayerKind { decay == .fixed ? .rwkv5 : .rwkv6 }

    var roles: RoleSet {
        var roles = RoleSet([.receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight])
        roles.add([.receptanceBias, .timeMixKeyBias, .timeMixValueBias], inputBias)
        roles.add([.timeMixOutputBias], outputBias)
        if hasBonus { roles.add([.bonus], .always) }
        roles.add(gate.roles, .always)
        roles.add(outputNorm.roles, .always)
        switch tokenShift {
        case .none: break
        case .fixed: roles.add([.shiftReceptance, .shiftKey, .shiftValue, .shiftGate], .always)
        case .dataDependent: roles.add(Set(shiftOrder).union([.shiftInput, .shiftDown, .shiftUp]), .always)
        }
        switch decay {
        case .fixed: roles.add([.fixedDecay], .always)
        case .lowRank, .clampedLowRank: roles.add([.decayBase, .decayDown, .decayUp], .always)
        }
        return roles
    }
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
