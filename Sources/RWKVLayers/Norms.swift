package import ModelFamilies
public import RWKVNumerics

/// A norm before or after a block.
public enum Norm<Element: Real>: Sendable {
    /// RMSNorm: x / sqrt(mean(x^2) + epsilon) weight
    case rms(weight: [Element], epsilon: Double)
    /// LayerNorm: (x - mean) / sqrt(variance + epsilon) weight + bias
    case layer(weight: [Element], bias: [Element], epsilon: Double)

    /// Applies the norm to each row of x, [tokens, width].
    public func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .rms(let weight, let epsilon): kernels.rmsNorm(x, weight: weight, epsilon: epsilon)
        case .layer(let weight, let bias, let epsilon):
            kernels.layerNorm(x, weight: weight, bias: bias, epsilon: epsilon)
        }
    }

    /// Returns the gradient of `x` given the output's gradient `dy`; adds the weight's gradient to `gradients`.
    ///
    /// Supports only RMSNorm, because students have no LayerNorm.
    package func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        guard case .rms(let weight, let epsilon) = self else { preconditionFailure("no gradients for LayerNorm") }
        return kernels.rmsNormBackward(dy, x, weight: weight, epsilon: epsilon, gradient: gradients[role])
    }
}

/// RMSNorm of each query (or receptance) head and each key head; the heads of each kind share a weight [N].
public struct HeadNorms<Element: Real>: Sendable {
    /// The weight for queries or receptance.
    public let query: [Element]
    /// The weight for keys.
    public let key: [Element]
    /// The epsilon, as in ``Norm/rms(weight:epsilon:)``.
    public let epsilon: Double

    /// Creates head norms with the given weights and epsilon.
    public init(query: [Element], key: [Element], epsilon: Double) {
        self.query = query
        self.key = key
        self.epsilon = epsilon
    }

    func callAsFunction(
        _ query: Matrix<Element>, _ key: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Matrix<Element>) {
        (
            kernels.rmsNorm(query, weight: self.query, epsilon: epsilon),
            kernels.rmsNorm(key, weight: self.key, epsilon: epsilon)
        )
    }

    func backward(
        _ dquery: Matrix<Element>, _ dkey: Matrix<Element>, _ query: Matrix<Element>, _ key: Matrix<Element>,
        _ roles: (query: TensorRole, key: TensorRole), _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Matrix<Element>) {
        (
            kernels.rmsNormBackward(
                dquery, query, weight: self.query, epsilon: epsilon, gradient: gradients[roles.query]),
            kernels.rmsNormBackward(dkey, key, weight: self.key, epsilon: epsilon, gradient: gradients[roles.key])
        )
    }
}
