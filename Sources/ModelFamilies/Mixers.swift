import CheckpointJSON

/// Whether a model of a family has a part.
public enum Presence: Sendable, Hashable {
    case never
    case always
    /// Where config.json's `key` says so, else not.
    case configured(key: String)
    /// In some models; the tensors tell.
    case sometimes

    /// What a configuration leaves of the choice.
    func resolved(by configuration: ModelConfiguration?) -> Presence {
        guard case .configured(let key) = self else { return self }
        return configuration?.root[key]?.bool == true ? .always : .never
    }
}

/// Softmax attention with grouped queries.
public struct Attention: Sendable, Hashable {
    /// Biases of queries, keys and values.
    public var inputBias = Presence.never
    /// A bias behind the heads.
    public var outputBias = Presence.never
    /// RMSNorm of each head of queries and keys, in front of the rotation.
    public var headNorm = Presence.never

    package var roles: RoleSet {
        var roles = RoleSet([.queryWeight, .keyWeight, .valueWeight, .outputWeight])
        roles.add([.queryBias, .keyBias, .valueBias], inputBias)
        roles.add([.outputBias], outputBias)
        roles.add([.queryNorm, .keyNorm], headNorm)
        return roles
    }
}

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
        /// Behind it: v2 is [D, A].
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

    /// What is done to the heads' output in front of bonus and gate.
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
    /// RMSNorm of each head of receptance and key, in front of the rotation.
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

/// Tensors that belong together.
package struct RoleSet: Sendable {
    package private(set) var required: Set<TensorRole>
    package private(set) var optional: Set<TensorRole> = []

    init(_ required: Set<TensorRole>) { self.required = required }

    mutating func add(_ roles: Set<TensorRole>, _ presence: Presence) {
        switch presence {
        case .never, .configured: break
        case .always: required.formUnion(roles)
        case .sometimes: optional.formUnion(roles)
        }
    }

    mutating func add(_ other: RoleSet) {
        required.formUnion(other.required)
        optional.formUnion(other.optional)
    }

    mutating func makeOptional(_ roles: Set<TensorRole>) {
        optional.formUnion(roles.intersection(required))
        required.subtract(roles)
    }

    package var all: Set<TensorRole> { required.union(optional) }
}
