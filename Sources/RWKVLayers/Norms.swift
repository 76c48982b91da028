public import RWKVNumerics

/// A norm of the residual stream.
public enum Norm<Element: Real>: Sendable {
    /// x / sqrt(mean(x^2) + epsilon) weight
    case rms(weight: [Element], epsilon: Double)
    /// (x - mean) / sqrt(variance + epsilon) weight + bias
    case layer(weight: [Element], bias: [Element], epsilon: Double)

    /// [tokens, width] to the same.
    public func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .rms(let weight, let epsilon): kernels.rmsNorm(x, weight: weight, epsilon: epsilon)
        case .layer(let weight, let bias, let epsilon):
            kernels.layerNorm(x, weight: weight, bias: bias, epsilon: epsilon)
        }
    }
}

/// RMSNorm of each head of queries and keys, or of receptance and keys: weights of [N] for all heads.
public struct HeadNorms<Element: Real>: Sendable {
    /// For queries, or receptance.
    public let query: [Element]
    /// For keys.
    public let key: [Element]
    /// As in ``Norm/rms(weight:epsilon:)``.
    public let epsilon: Double

    /// Norms of heads.
    public init(query: [Element], key: [Element], epsilon: Double) {
        self.query = query
        self.key = key
        self.epsilon = epsilon
    }
}
