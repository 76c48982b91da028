/// Softmax attention, with grouped queries or with keys and values for every head.
public struct Attention: Sendable, Hashable {
    /// Whether queries, keys and values have biases.
    public var inputBias = Presence.never
    /// Whether the output projection has a bias.
    public var outputBias = Presence.never
    /// Whether each head of queries and keys has an RMSNorm, before RoPE.
    public var headNorm = Presence.never
    /// Whether each query head has its own keys and values.
    var isMultiHead = false
    /// The query scale: the factor on the scores; nil for 1 / sqrt(N).
    public internal(set) var scale: Double?
    /// The sliding window: the number of tokens that a query sees, including its own; nil for no window.
    public internal(set) var window: Int?
    /// The score softcap: scores become cap tanh(score / cap) before the softmax; nil for none.
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
    /// Query projection: [A, C].
    public static let queryWeight = TensorRole("query.weight", [.attentionWidth, .width], .mixer)
    /// Bias of the query projection: [A].
    public static let queryBias = TensorRole("query.bias", [.attentionWidth], .mixer)
    /// Key projection: [Hk N, C].
    public static let keyWeight = TensorRole("key.weight", [.keyValueWidth, .width], .mixer)
    /// Bias of the key projection: [Hk N].
    public static let keyBias = TensorRole("key.bias", [.keyValueWidth], .mixer)
    /// Value projection: [Hk N, C].
    public static let valueWeight = TensorRole("value.weight", [.keyValueWidth, .width], .mixer)
    /// Bias of the value projection: [Hk N].
    public static let valueBias = TensorRole("value.bias", [.keyValueWidth], .mixer)
    /// Output projection: [C, A].
    public static let outputWeight = TensorRole("output.weight", [.width, .attentionWidth], .mixer)
    /// Bias of the output projection: [C].
    public static let outputBias = TensorRole("output.bias", [.width], .mixer)
    /// Weight of the RMSNorm on each query head: [N].
    public static let queryNorm = TensorRole("query_norm", [.headSize], .mixer)
    /// Weight of the RMSNorm on each key head: [N].
    public static let keyNorm = TensorRole("key_norm", [.headSize], .mixer)
}
