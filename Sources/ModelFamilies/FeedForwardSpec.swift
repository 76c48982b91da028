/// The feed-forward block after the mixer of each layer.
public enum FeedForwardSpec: Sendable, Hashable {
    /// down(f(gate x) * up x)
    case gated(Activation)
    /// Channel mixing of RWKV-7: value(relu(key(x + (previous - x) x_k))^2)
    case channelMix

    /// The activation f of a gated block; the raw values are transformers' names.
    public enum Activation: String, Sendable, CaseIterable {
        case silu
        /// GELU's tanh approximation: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
        case geluTanh = "gelu_pytorch_tanh"
    }

    package var roles: RoleSet {
        switch self {
        case .gated: RoleSet([.feedForwardGate, .feedForwardUp, .feedForwardDown])
        case .channelMix: RoleSet([.channelMixShift, .channelMixKey, .channelMixValue])
        }
    }

    static let allRoles: [TensorRole] = [
        .feedForwardGate, .feedForwardUp, .feedForwardDown, .channelMixShift, .channelMixKey, .channelMixValue,
    ]
}

extension TensorRole {
    /// Gate projection: [F, C].
    public static let feedForwardGate = TensorRole("feed_forward.gate", [.feedForwardWidth, .width], .mlp)
    /// Up projection: [F, C].
    public static let feedForwardUp = TensorRole("feed_forward.up", [.feedForwardWidth, .width], .mlp)
    /// Down projection: [C, F].
    public static let feedForwardDown = TensorRole("feed_forward.down", [.width, .feedForwardWidth], .mlp)
    /// Token-shift coefficients of channel mixing (x_k): [C].
    public static let channelMixShift = TensorRole("channel_mix.shift", [.width], .mlp)
    /// Key projection of channel mixing: [F, C].
    public static let channelMixKey = TensorRole("channel_mix.key", [.feedForwardWidth, .width], .mlp)
    /// Value projection of channel mixing: [C, F].
    public static let channelMixValue = TensorRole("channel_mix.value", [.width, .feedForwardWidth], .mlp)
}
