public import RWKVNumerics

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

    /// f(x down) up: [tokens, inputs] to [tokens, outputs]; the base is added by what it is for.
    public func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        let inner = kernels.product(x, down)
        switch activation {
        case .none: break
        case .tanh: kernels.tanh(inPlace: inner)
        case .sigmoid: kernels.sigmoid(inPlace: inner)
        }
        return kernels.product(inner, up)
    }
}
