/// Time mixing of one generation of RWKV, with the variant of each stage.
public enum TimeMixSpec: Sendable, Hashable {
    /// The time mixing of RWKV-5 and RWKV-6.
    case rwkv6(TimeMix6)
    /// The time mixing of RWKV-7.
    case rwkv7(TimeMix7)

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
        case .rwkv6: true
        case .rwkv7(let stages): stages.tokenShift != .none
        }
    }

    /// Whether RoPE is applied to receptance and key.
    public var usesRoPE: Bool {
        switch self {
        case .rwkv6: false
        case .rwkv7(let stages): stages.rotary != .none
        }
    }

    /// Whether several receptance heads can share a key-value head.
    var sharesKeys: Bool {
        switch self {
        case .rwkv6: false
        case .rwkv7: true
        }
    }

    /// Whether the teacher's RoPE scaling can apply to receptance and key.
    package var allowsScaledRoPE: Bool {
        switch self {
        case .rwkv6: false
        case .rwkv7(let stages): stages.rotary != .teacherUnscaled
        }
    }

    /// Whether each receptance head and key head has an RMSNorm.
    public var headNorm: Presence {
        switch self {
        case .rwkv6: .never
        case .rwkv7(let stages): stages.headNorm
        }
    }

    /// Whether a GroupNorm normalises the heads' output.
    public var hasGroupNorm: Bool {
        switch self {
        case .rwkv6: true
        case .rwkv7(let stages): stages.outputNorm == .groupNorm
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
        guard case .rwkv7(let stages) = self, stages.rotary != .none else { return nil }
        let own = teacher?.ofTimeMixing
        return isScaled && stages.rotary == .teacher ? own : own?.plain
    }

    var roles: RoleSet {
        switch self {
        case .rwkv6(let stages): stages.roles
        case .rwkv7(let stages): stages.roles
        }
    }

    /// The roles that a checkpoint always contains, even if it contains only trained tensors.
    var trainedRoles: Set<TensorRole> {
        roles.required.subtracting([.receptanceWeight, .timeMixKeyWeight, .timeMixValueWeight, .timeMixOutputWeight])
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
