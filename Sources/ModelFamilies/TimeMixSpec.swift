/// Time mixing of one generation of RWKV, with the variant of each stage.
public enum TimeMixSpec: Sendable, Hashable {
    /// The time mixing of RWKV-5 and RWKV-6.
    case rwkv6(TimeMix6)
    /// The time mixing of RWKV-7.
    case rwkv7(TimeMix7)

    /// Whether RoPE is applied to receptance and key.
    public enum Rotary: String, Sendable {
        case none
        /// RoPE is applied as the teacher applies it to queries and keys, before keys are repeated for each head.
        case teacher
        /// RoPE is applied with the teacher's theta, without scaling.
        case teacherUnscaled
    }

    /// The normalisation of the heads' output, before the bonus and the gate.
    public enum OutputNorm: Sendable, Hashable {
        case none
        /// y / sqrt(N)
        case headScale
        /// GroupNorm with one group per head.
        case groupNorm(GroupNormEpsilon)

        var roles: Set<TensorRole> {
            if case .groupNorm = self { [.groupNormWeight, .groupNormBias] } else { [] }
        }
    }

    /// The epsilon of the GroupNorm on the heads' output.
    public enum GroupNormEpsilon: Sendable {
        /// 64e-5
        case standard
        /// 1e-5 N
        case ofHeadSize
        /// 1e-5 N^2, which is an epsilon of 1e-5 N for y / sqrt(N).
        case ofHeadSizeSquared
        /// The epsilon of the model's other norms.
        case ofNorms
    }

    /// The factor of the heads' output.
    public enum Gate: String, Sendable {
        case none = "1"
        /// sigmoid(x g1) g2
        case lowRank = "sigmoid(x g1) g2"
        /// 1 + sigmoid(x g1) g2
        case onePlusLowRank = "1 + sigmoid(x g1) g2"
        /// sigmoid(W_g x)
        case sigmoidProjection = "sigmoid(W_g x)"
        /// silu(W_g x)
        case siluProjection = "silu(W_g x)"

        var roles: Set<TensorRole> {
            switch self {
            case .none: []
            case .lowRank, .onePlusLowRank: [.gateDown, .gateUp]
            case .sigmoidProjection, .siluProjection: [.gateWeight]
            }
        }
    }

    /// The kind of a layer that has this time mixing.
    public var kind: LayerKind {
        switch self {
        case .rwkv6(let stages): stages.kind
        case .rwkv7: .rwkv7
        }
    }

    /// Whether each projection's input depends on the previous token.
    public var shiftsTokens: Bool {
        switch self {
        case .rwkv6(let stages): stages.tokenShift != .none
        case .rwkv7(let stages): stages.tokenShift != .none
        }
    }

    /// Whether RoPE is applied to receptance and key.
    public var usesRoPE: Bool { rotary != .none }

    private var rotary: Rotary {
        switch self {
        case .rwkv6(let stages): stages.rotary
        case .rwkv7(let stages): stages.rotary
        }
    }

    /// Whether several receptance heads can share a key-value head.
    var sharesKeys: Bool {
        switch self {
        case .rwkv6(let stages): stages.sharesKeys
        case .rwkv7: true
        }
    }

    /// Whether the teacher's RoPE scaling can apply to receptance and key.
    package var allowsScaledRoPE: Bool { rotary != .teacherUnscaled }

    /// Whether each receptance head and key head has an RMSNorm.
    public var headNorm: Presence {
        switch self {
        case .rwkv6: .never
        case .rwkv7(let stages): stages.headNorm
        }
    }

    /// Whether a GroupNorm normalises the heads' output.
    public var hasGroupNorm: Bool { if case .groupNorm = outputNorm { true } else { false } }

    /// The factor of the heads' output.
    package var gate: Gate {
        switch self {
        case .rwkv6(let stages): stages.gate
        case .rwkv7(let stages): stages.gate
        }
    }

    /// The factor by which the key is multiplied, as a formula.
    package var keyScale: String {
        switch self {
        case .rwkv6(let stages): stages.balancesKeys ? "1 - w" : "1"
        case .rwkv7(let stages): stages.keyScale.rawValue
        }
    }

    /// The normalisation of the heads' output.
    var outputNorm: OutputNorm {
        switch self {
        case .rwkv6(let stages): stages.outputNorm
        case .rwkv7(let stages): stages.outputNorm
        }
    }

    /// Whether the first time-mixing layer also has value and key residuals, which are not used.
    public var storesUnusedResiduals: Bool {
        switch self {
        case .rwkv6: false
        case .rwkv7(let stages): stages.storesUnusedResiduals
        }
    }

    /// The dimensions that are ranks of low-rank parts.
    public var ranks: Set<ModelDimension> {
        Set(roles.all.flatMap(\.shape)).intersection(ModelDimension.ranks)
    }

    /// Returns the rotary embedding of receptance and key, or nil if there is none.
    ///
    /// It is derived from the rotary embedding that the teacher applies to queries and keys.
    ///
    /// - Parameters:
    ///   - teacher: the rotary embedding of the teacher's layer.
    ///   - isScaled: whether the teacher's RoPE scaling also applies to time mixing.
    /// - Returns: the rotary embedding of the time-mixing layer.
    func rotation(from teacher: RotaryEmbedding?, isScaled: Bool) -> RotaryEmbedding? {
        guard usesRoPE else { return nil }
        let own = teacher?.ofTimeMixing
        return isScaled && allowsScaledRoPE ? own : own?.plain
    }

    package var roles: RoleSet {
        switch self {
        case .rwkv6(let stages): stages.roles
        case .rwkv7(let stages): stages.roles
        }
    }

    /// The roles that a checkpoint always contains, even if it contains only trained tensors.
    var trainedRoles: Set<TensorRole> {
        roles.required.subtracting([.receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight])
    }

    /// The roles of tensors that a layer can have although the equations do not use them.
    package var unusedRoles: Set<TensorRole> {
        switch self {
        case .rwkv6: []
        case .rwkv7(let stages): stages.ignoredRoles.subtracting(stages.roles.required)
        }
    }

    /// The roles of the residuals that mix in the first layer's values and keys.
    ///
    /// The layer that provides the first values and keys does not use these tensors.
    package var residualRoles: Set<TensorRole> {
        switch self {
        case .rwkv6: []
        case .rwkv7(let stages): stages.residualRoles
        }
    }

    /// Whether later layers mix in the first layer's values.
    package var mixesFirstValues: Bool { !residualRoles.isEmpty }

    static let allRoles = TimeMix7.allRoles + TimeMix6.ownRoles
}
