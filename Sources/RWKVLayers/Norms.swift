package import ModelFamilies
public import RWKVNumerics

/// A normalisation layer: RMSNorm or LayerNorm.
public enum Norm<Element: Real>: Sendable {
    /// RMSNorm: x / sqrt(mean(x^2) + epsilon) * weight.
    case rms(weight: [Element], epsilon: Double)
    /// LayerNorm: (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias.
    case layer(weight: [Element], bias: [Element], epsilon: Double)

    /// Normalises each row of x, [tokens, width].
    public func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .rms(let weight, let epsilon): kernels.rmsNorm(x, weight: weight, epsilon: epsilon)
        case .layer(let weight, let bias, let epsilon):
            kernels.layerNorm(x, weight: weight, bias: bias, epsilon: epsilon)
        }
    }

    /// Returns the gradient of `x` given `dy`, the gradient of the output, and adds the gradient of the weight to
    /// `gradients`.
    ///
    /// The norm must be an RMSNorm. LayerNorm has no backward pass, because no student that can be trained uses it.
    package func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        guard case .rms(let weight, let epsilon) = self else { preconditionFailure("no gradients for LayerNorm") }
        return kernels.rmsNormBackward(dy, x, weight: weight, epsilon: epsilon, gradient: gradients[role])
    }
}

/// RMSNorm applied separately to each query (or receptance) head and each key head.
///
/// All query heads share one weight, and all key heads share another; each weight is [N].
public struct HeadNorms<Element: Real>: Sendable {
    /// The weight that all query (or receptance) heads share, [N].
    public let query: [Element]
    /// The weight that all key heads share, [N].
    public let key: [Element]
    /// The epsilon of both norms, as in ``Norm/rms(weight:epsilon:)``.
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
