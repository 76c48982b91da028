/// Softmax attention, which is either grouped-query or multi-head.
public struct Attention: Sendable, Hashable {
    /// Whether queries, keys and values have biases.
    public var inputBias = Presence.never
    /// Whether the output projection has a bias.
    public var outputBias = Presence.never
    /// Whether each query head and key head has an RMSNorm, which is applied before RoPE.
    public var headNorm = Presence.never
    /// Whether each query head has its own keys and values.
    var isMultiHead = false
    /// The query scale, by which attention scores are multiplied, or nil for 1 / sqrt(N).
    public internal(set) var scale: Double?
    /// The length of the sliding window, or nil if there is no window.
    ///
    /// The length is the number of tokens that a query attends to, including its own.
    public internal(set) var window: Int?
    /// The score softcap, or nil for no softcap.
    ///
    /// Scores become cap tanh(score / cap) before the softmax.
    public internal(set) var softcap: Double?

    package var roles: RoleSet {
        var roles = RoleSet([.queryWeight, .keyWeight, .valueWeight, .outputWeight])
        roles.add([.queryBias, .keyBias, .valueBias], inputBias)
        roles.add([.outputBias], outputBias)
        roles.add([.queryNorm, .keyNorm], headNorm)
        return roles
    }
}

extension Attention {
    static let allRoles: [TensorRole] = [
        .queryWeight, .queryBias, .keyWeight, .keyBias, .valueWeight, .valueBias, .outputWeight, .outputBias,
        .queryNorm,
        .keyNorm,
    ]
}

extension TensorRole {
    /// The weight of the query projection, with shape [A, C].
    public static let queryWeight = TensorRole("query.weight", [.attentionWidth, .width], .mixer)
    /// The bias of the query projection, with shape [A].
    public static let queryBias = TensorRole("query.bias", [.attentionWidth], .mixer)
    /// The weight of the key projection, with shape [Hk N, C].
    public static let keyWeight = TensorRole("key.weight", [.keyValueWidth, .width], .mixer)
    /// The bias of the key projection, with shape [Hk N].
    public static let keyBias = TensorRole("key.bias", [.keyValueWidth], .mixer)
    /// The weight of the value projection, with shape [Hk N, C].
    public static let valueWeight = TensorRole("value.weight", [.keyValueWidth, .width], .mixer)
    /// The bias of the value projection, with shape [Hk N].
    public static let valueBias = TensorRole("value.bias", [.keyValueWidth], .mixer)
    /// The weight of the output projection, with shape [C, A].
    public static let outputWeight = TensorRole("output.weight", [.width, .attentionWidth], .mixer)
    /// The bias of the output projection, with shape [C].
    public static let outputBias = TensorRole("output.bias", [.width], .mixer)
    /// The weight of the RMSNorm on each query head, with shape [N].
    public static let queryNorm = TensorRole("query_norm", [.headSize], .mixer)
    /// The weight of the RMSNorm on each key head, with shape [N].
    public static let keyNorm = TensorRole("key_norm", [.headSize], .mixer)
}
