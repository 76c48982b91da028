/// The feed-forward block, which follows the mixer in each layer.
public enum FeedForwardSpec: Sendable, Hashable {
    /// A gated feed-forward block: down(f(gate x) * up x).
    case gated(Activation)
    /// The channel mixing of RWKV-7: value(relu(key(x + (previous - x) x_k))^2).
    case channelMix

    /// The activation f of a gated block, with transformers' name as the raw value.
    public enum Activation: String, Sendable, CaseIterable {
        case silu
        /// The tanh approximation of GELU: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
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
    /// The weight of the gate projection, with shape [F, C].
    public static let feedForwardGate = TensorRole("feed_forward.gate", [.feedForwardWidth, .width], .mlp)
    /// The weight of the up projection, with shape [F, C].
    public static let feedForwardUp = TensorRole("feed_forward.up", [.feedForwardWidth, .width], .mlp)
    /// The weight of the down projection, with shape [C, F].
    public static let feedForwardDown = TensorRole("feed_forward.down", [.width, .feedForwardWidth], .mlp)
    /// The token-shift coefficients for channel mixing (x_k), with shape [C].
    public static let channelMixShift = TensorRole("channel_mix.shift", [.width], .mlp)
    /// The weight of the key projection of channel mixing, with shape [F, C].
    public static let channelMixKey = TensorRole("channel_mix.key", [.feedForwardWidth, .width], .mlp)
    /// The weight of the value projection of channel mixing, with shape [C, F].
    public static let channelMixValue = TensorRole("channel_mix.value", [.width, .feedForwardWidth], .mlp)
}
