/// The feed-forward block, which follows the mixer in each layer.
public enum FeedForwardSpec: Sendable, Hashable {
    /// A gated feed-forward block: down(f(gate x) * up x).
    case gated(Activation)
    /// The channel mixing of RWKV.
    case channelMix(ChannelMix)

    /// The activation f of a gated block, with transformers' name as the raw value.
    public enum Activation: String, Sendable, CaseIterable {
        case silu
        /// The tanh approximation of GELU: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
        case geluTanh = "gelu_pytorch_tanh"
    }

    package var roles: RoleSet {
        switch self {
        case .gated: RoleSet([.feedForwardGate, .feedForwardUp, .feedForwardDown])
        case .channelMix(.rwkv7): RoleSet([.channelMixShift, .channelMixKey, .channelMixValue])
        case .channelMix(.rwkv6), .channelMix(.rwkv5):
            RoleSet([
                .channelMixShift, .channelMixKey, .channelMixValue, .channelMixReceptanceShift, .channelMixReceptance,
            ])
        }
    }

    /// The channel mixing of a generation of RWKV.
    public enum ChannelMix: String, Sendable {
        /// value(relu(key(x_k))^2), where x_k = x + (previous - x) shift_k
        case rwkv7
        /// sigmoid(receptance(x_r)) value(relu(key(x_k))^2), where x_j = x + (previous - x) shift_j
        case rwkv6
        /// sigmoid(receptance(x_r)) value(relu(key(x_k))^2), where x_j = previous + (x - previous) shift_j
        case rwkv5
    }

    /// Whether the block's output depends on the previous token.
    package var shiftsTokens: Bool {
        if case .channelMix = self { true } else { false }
    }

    static let allRoles: [TensorRole] = [
        .feedForwardGate, .feedForwardUp, .feedForwardDown, .channelMixShift, .channelMixKey, .channelMixValue,
        .channelMixReceptanceShift, .channelMixReceptance,
    ]
}

extension TensorRole {
    /// The weight of the gate projection, with shape [F, C].
    public static let feedForwardGate = TensorRole("feed_forward.gate", [.feedForwardWidth, .width], .mlp)
    /// The weight of the up projection, with shape [F, C].
    public static let feedForwardUp = TensorRole("feed_forward.up", [.feedForwardWidth, .width], .mlp)
    /// The weight of the down projection, with shape [C, F].
    public static let feedForwardDown = TensorRole("feed_forward.down", [.width, .feedForwardWidth], .mlp)
    /// The token-shift coefficients for the key of channel mixing (x_k, time_maa_k, time_mix_k), with shape [C].
    public static let channelMixShift = TensorRole("channel_mix.shift", [.width], .mlp)
    /// The weight of the key projection of channel mixing, with shape [F, C].
    public static let channelMixKey = TensorRole("channel_mix.key", [.feedForwardWidth, .width], .mlp)
    /// The weight of the value projection of channel mixing, with shape [C, F].
    public static let channelMixValue = TensorRole("channel_mix.value", [.width, .feedForwardWidth], .mlp)
    /// The token-shift coefficients for the receptance of channel mixing (time_maa_r, time_mix_r), with shape [C].
    public static let channelMixReceptanceShift = TensorRole("channel_mix.receptance_shift", [.width], .mlp)
    /// The weight of the receptance projection of channel mixing, with shape [C, C].
    public static let channelMixReceptance = TensorRole("channel_mix.receptance", [.width, .width], .mlp)
}
