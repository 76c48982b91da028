public import ModelFamilies
public import RWKVNumerics

/// Accumulators for the gradients of a layer's weights, keyed by role.
///
/// Each gradient has the storage order of its weight. The gradient of a vector is a single row. Frozen weights have no
/// entry.
public typealias WeightGradients<Element: Real> = [TensorRole: Matrix<Element>]

/// A linear layer, which computes W x + b.
public struct Linear<Element: Real>: Sendable {
    /// The weight matrix W, [outputs, inputs].
    public let weight: StoredMatrix
    /// The bias b, [outputs]; nil if the layer has no bias.
    public let bias: [Element]?

    /// Creates a linear layer with the given weight and bias.
    public init(weight: StoredMatrix, bias: [Element]? = nil) {
        self.weight = weight
        self.bias = bias
    }

    /// Applies the layer to x, [tokens, inputs], and returns [tokens, outputs].
    public func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        let y = kernels.product(x, weight)
        if let bias { kernels.add(bias: bias, to: y) }
        return y
    }

    /// Returns the gradient of `x`, [tokens, inputs], given `dy`, the gradient of the output, and adds the gradients of
    /// the weight and bias to `gradients`.
    func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ roles: (weight: TensorRole, bias: TensorRole?),
        _ gradients: WeightGradients<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        weightsBackward(dy, x, roles, gradients, kernels)
        return kernels.product(dy, weight.transposed)
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the weight and bias to `gradients`.
    ///
    /// If `dx` is nil, the gradient of `x` is not computed.
    func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ roles: (weight: TensorRole, bias: TensorRole?),
        _ gradients: WeightGradients<Element>, addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        weightsBackward(dy, x, roles, gradients, kernels)
        if let dx { kernels.addProduct(dy, weight.transposed, to: dx) }
    }

    private func weightsBackward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ roles: (weight: TensorRole, bias: TensorRole?),
        _ gradients: WeightGradients<Element>, _ kernels: Kernels<Element>
    ) {
        if let gradient = gradients[roles.weight] { kernels.addGradient(to: gradient, of: weight, dy, x) }
        if let role = roles.bias, let gradient = gradients[role] { kernels.addGradient(to: gradient, ofRows: dy) }
    }
}

/// A low-rank projection, f(x down) up, with an optional base that the caller adds.
public struct LowRank<Element: Real>: Sendable {
    /// The activation function f between the two matrices.
    public enum Activation: Sendable {
        case none
        case tanh
        case sigmoid
    }

    /// The base that the caller adds to the projection, [outputs]; nil if there is none.
    public let base: [Element]?
    /// The first matrix, [inputs, rank].
    public let down: StoredMatrix
    /// The second matrix, [rank, outputs].
    public let up: StoredMatrix
    /// The activation function f between the two matrices.
    public let activation: Activation

    /// Creates a low-rank projection with the given base, matrices and activation function.
    public init(base: [Element]?, down: StoredMatrix, up: StoredMatrix, activation: Activation) {
        self.base = base
        self.down = down
        self.up = up
        self.activation = activation
    }

    /// Returns the projection without the base, f(x down) up, [tokens, outputs], and the inner activations f(x down),
    /// [tokens, rank].
    func callAsFunction(
        _ x: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> (y: Matrix<Element>, inner: Matrix<Element>) {
        let inner = kernels.product(x, down)
        switch activation {
        case .none: break
        case .tanh: kernels.tanh(inPlace: inner)
        case .sigmoid: kernels.sigmoid(inPlace: inner)
        }
        return (kernels.product(inner, up), inner)
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the base and both matrices to `gradients`.
    ///
    /// `dy` is the gradient of the output. If `dx` is nil, the gradient of `x` is not computed.
    func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, inner: Matrix<Element>,
        _ roles: (base: TensorRole?, down: TensorRole, up: TensorRole), _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        if let role = roles.base, let gradient = gradients[role] { kernels.addGradient(to: gradient, ofRows: dy) }
        if let gradient = gradients[roles.up] { kernels.addGradient(to: gradient, of: up, dy, inner) }
        let dinner = kernels.product(dy, up.transposed)
        switch activation {
        case .none: break
        case .tanh: kernels.tanhBackward(inPlace: dinner, inner)
        case .sigmoid: kernels.sigmoidBackward(inPlace: dinner, inner)
        }
        if let gradient = gradients[roles.down] { kernels.addGradient(to: gradient, of: down, dinner, x) }
        if let dx { kernels.addProduct(dinner, down.transposed, to: dx) }
    }
}
