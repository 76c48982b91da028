public import RWKVNumerics

// The stages of time mixing of which there are several kinds, each with the weights that it needs.

/// What the projections see.
public enum TokenShift<Element: Real>: Sendable {
    /// The normed input itself.
    case none
    /// x + (previous - x) x_j, with a share for each projection: [C].
    case lerp(
        receptance: [Element], decay: [Element], key: [Element], value: [Element], iclr: [Element], gate: [Element])

    /// What each projection sees: [tokens, C].
    struct Inputs {
        let receptance, decay, key, value, iclr, gate: Matrix<Element>
    }

    func callAsFunction(_ x: Matrix<Element>, _ previous: inout [Element], _ kernels: Kernels<Element>) -> Inputs {
        switch self {
        case .none: return Inputs(receptance: x, decay: x, key: x, value: x, iclr: x, gate: x)
        case .lerp(let receptance, let decay, let key, let value, let iclr, let gate):
            let before = previous
            previous = x.row(x.rows - 1)
            let shifted = { kernels.shifted(x, previous: before, share: $0) }
            return Inputs(
                receptance: shifted(receptance), decay: shifted(decay), key: shifted(key), value: shifted(value),
                iclr: shifted(iclr), gate: shifted(gate))
        }
    }
}

/// A share of the first layer's values or keys: y + (first - y) sigmoid(base + x down up).
public struct Residual<Element: Real>: Sendable {
    /// The share, before the sigmoid.
    public let share: LowRank<Element>

    /// A residual by its share.
    public init(share: LowRank<Element>) { self.share = share }

    func callAsFunction(
        _ y: Matrix<Element>, first: Matrix<Element>, _ x: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        kernels.mixed(y, first: first, share: share(x, kernels))
    }
}

/// What is normed, head by head, to become the removal key kk.
public enum RemovalKey<Element: Real>: Sendable {
    case key
    /// key * k_k: [A]
    case scaledKey([Element])

    func callAsFunction(_ key: Matrix<Element>, size: Int, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .key: kernels.l2Normalised(key, size: size)
        case .scaledKey(let scale): kernels.l2Normalised(kernels.product(key, factors: scale), size: size)
        }
    }
}

/// What the key is multiplied with.
public enum KeyScale<Element: Real>: Sendable {
    /// 1 + (a - 1) k_a: [A]
    case iclr(mix: [Element])
    /// 1 - omega + a
    case oneMinusOmega

    func callAsFunction(
        _ key: Matrix<Element>, iclr a: Matrix<Element>, omega: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        switch self {
        case .iclr(let mix): kernels.scaled(key, iclr: a, mix: mix)
        case .oneMinusOmega: kernels.scaled(key, omega: omega, iclr: a)
        }
    }
}

/// What is done to the heads' output in front of bonus and gate.
public enum OutputNorm<Element: Real>: Sendable {
    /// GroupNorm over each head: [A] each.
    case groupNorm(weight: [Element], bias: [Element], epsilon: Double)
    /// y / sqrt(N)
    case headScale

    func callAsFunction(_ y: Matrix<Element>, size: Int, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .groupNorm(let weight, let bias, let epsilon):
            return kernels.layerNorm(y, groups: y.columns / size, weight: weight, bias: bias, epsilon: epsilon)
        case .headScale:
            kernels.scale(y, by: 1 / Double(size).squareRoot())
            return y
        }
    }
}
