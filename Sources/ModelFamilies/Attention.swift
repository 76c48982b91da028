/// Softmax attention with grouped queries.
public struct Attention: Sendable, Hashable {
    /// Biases of queries, keys and values.
    public var inputBias = Presence.never
    /// A bias of the output projection.
    public var outputBias = Presence.never
    /// RMSNorm of each head of queries and keys, before the rotation.
    public var headNorm = Presence.never
    /// Whether each head of queries has keys and values of its own.
    var hasKeysForEveryHead = false
    /// What scores are multiplied by; nil for 1 / sqrt(N).
    public internal(set) var scale: Double?
    /// How many tokens a query sees, itself among them; nil for all before it.
    public internal(set) var window: Int?
    /// Scores become cap tanh(score / cap) before the softmax; nil for no cap.
    public internal(set) var softcap: Double?

    package var roles: RoleSet {
        var roles = RoleSet([.queryWeight, .keyWeight, .valueWeight, .outputWeight])
        roles.add([.queryBias, .keyBias, .valueBias], inputBias)
        roles.add([.outputBias], outputBias)
        roles.add([.queryNorm, .keyNorm], headNorm)
        return roles
    }
}

// Its roles.
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
    /// RMSNorm of each head of queries: [N].
    public static let queryNorm = TensorRole("query_norm", [.headSize], .mixer)
    /// RMSNorm of each head of keys: [N].
    public static let keyNorm = TensorRole("key_norm", [.headSize], .mixer)
}
