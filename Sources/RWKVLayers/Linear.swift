public import ModelFamilies
public import RWKVNumerics

/// Accumulated gradients of a layer's weights by role, each in its weight's storage order; vectors are a single row,
/// and frozen weights have no entry.
public typealias WeightGradients<Element: Real> = [TensorRole: Matrix<Element>]

/// A linear layer: W x + b.
public struct Linear<Element: Real>: Sendable {
    /// The weight W: [outputs, inputs].
    public let weight: StoredMatrix
    /// The bias b: [outputs]; nil for none.
    public let bias: [Element]?

    /// Creates a linear layer with the given weights.
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

    /// Returns the gradient of `x`, [tokens, inputs], given the output's gradient `dy`; adds the gradients of the
    /// weight and bias to `gradients`.
    func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ roles: (weight: TensorRole, bias: TensorRole?),
        _ gradients: WeightGradients<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        weightsBackward(dy, x, roles, gradients, kernels)
        return kernels.product(dy, weight.transposed)
    }

    /// Runs the backward pass for an input with several uses: adds the gradient of `x` to `dx`, which is nil if that
    /// gradient is not needed.
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

/// A low-rank projection f(x down) up; the caller adds the base.
public struct LowRank<Element: Real>: Sendable {
    /// The function f between the two matrices.
    public enum Activation: Sendable {
        case none
        case tanh
        case sigmoid
    }

    /// The base that the caller adds, [outputs]; nil for none.
    public let base: [Element]?
    /// The first matrix: [inputs, rank].
    public let down: StoredMatrix
    /// The second matrix: [rank, outputs].
    public let up: StoredMatrix
    /// The function f between the two matrices.
    public let activation: Activation

    /// Creates a low-rank projection with the given weights.
    public init(base: [Element]?, down: StoredMatrix, up: StoredMatrix, activation: Activation) {
        self.base = base
        self.down = down
        self.up = up
        self.activation = activation
    }

    /// Returns f(x down) up without the base, [tokens, outputs], and f(x down), [tokens, rank].
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

    /// Given the output's gradient `dy`, adds the gradient of `x` to `dx`, and the gradients of the base and both
    /// matrices to `gradients`.
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
