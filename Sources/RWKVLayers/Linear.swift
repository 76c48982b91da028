public import ModelFamilies
public import RWKVNumerics

/// What gradients of a layer's weights are added to, each as its weight stands, vectors as a row; what is not there is frozen.
public typealias WeightGradients<Element: Real> = [TensorRole: Matrix<Element>]

/// W x + b.
public struct Linear<Element: Real>: Sendable {
    /// W: [outputs, inputs].
    public let weight: StoredMatrix
    /// b: [outputs]; nil for none.
    public let bias: [Element]?

    /// A linear layer.
    public init(weight: StoredMatrix, bias: [Element]? = nil) {
        self.weight = weight
        self.bias = bias
    }

    /// [tokens, inputs] to [tokens, outputs].
    public func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        let y = kernels.product(x, weight)
        if let bias { kernels.add(bias: bias, to: y) }
        return y
    }

    /// The gradient of `x`, [tokens, inputs], by that of what came out; adds those of weight and bias to theirs.
    func backward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, _ roles: (weight: TensorRole, bias: TensorRole?),
        _ gradients: WeightGradients<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        weightsBackward(dy, x, roles, gradients, kernels)
        return kernels.product(dy, weight.transposed)
    }

    /// The same, added to that of what else was made of `x`; nil where it is of no use.
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

/// f(x down) up, with a matrix of few columns and one of few rows, to which what it is for adds a base.
public struct LowRank<Element: Real>: Sendable {
    /// What is between the two matrices.
    public enum Activation: Sendable {
        case none
        case tanh
        case sigmoid
    }

    /// [outputs]; nil for none.
    public let base: [Element]?
    /// [inputs, rank].
    public let down: StoredMatrix
    /// [rank, outputs].
    public let up: StoredMatrix
    /// f.
    public let activation: Activation

    /// A low-rank part.
    public init(base: [Element]?, down: StoredMatrix, up: StoredMatrix, activation: Activation) {
        self.base = base
        self.down = down
        self.up = up
        self.activation = activation
    }

    /// f(x down) up, the base being added by what it is for: [tokens, outputs], and f(x down), [tokens, rank].
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

    /// Adds the gradient of `x` by that of what came out, with the base or without, to `dx`, and those of its weights to theirs.
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
