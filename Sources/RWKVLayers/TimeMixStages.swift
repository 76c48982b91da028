import ModelFamilies
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
            let shifted = kernels.shifted(
                x, previous: before, shares: [receptance, decay, key, value, iclr, gate])
            return Inputs(
                receptance: shifted[0], decay: shifted[1], key: shifted[2], value: shifted[3], iclr: shifted[4],
                gate: shifted[5])
        }
    }
}

/// A share of the first layer's values or keys: y + (first - y) sigmoid(base + x down up).
public struct Residual<Element: Real>: Sendable {
    /// The share, before the sigmoid.
    public let share: LowRank<Element>

    /// A residual by its share.
    public init(share: LowRank<Element>) { self.share = share }

    /// What its gradients need.
    struct Trace {
        let y, first, inner, share: Matrix<Element>
    }

    func callAsFunction(
        _ y: Matrix<Element>, first: Matrix<Element>, _ x: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (share, inner) = share(x, kernels)
        return (
            kernels.mixed(y, first: first, share: share, base: self.share.base),
            Trace(y: y, first: first, inner: inner, share: share)
        )
    }

    /// The gradient of `y` takes the place of `dy`; that of `x` is added to `dx`.
    func backward(
        inPlace dy: Matrix<Element>, _ x: Matrix<Element>, _ trace: Trace, dfirst: Matrix<Element>?,
        _ roles: (base: TensorRole?, down: TensorRole, up: TensorRole), _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard let base = share.base else { preconditionFailure("a share without a base, which no student has") }
        kernels.mixedBackward(
            inPlace: dy, trace.y, first: trace.first, share: trace.share, base: base, dfirst: dfirst)
        share.backward(trace.share, x, inner: trace.inner, roles, gradients, addingTo: dx, kernels)
    }
}

/// What is normed, head by head, to become the removal key kk.
public enum RemovalKey<Element: Real>: Sendable {
    case key
    /// key * k_k: [A]
    case scaledKey([Element])

    var scale: [Element]? {
        switch self {
        case .key: nil
        case .scaledKey(let scale): scale
        }
    }
}

/// What the key is multiplied with.
public enum KeyScale<Element: Real>: Sendable {
    /// 1 + (a - 1) k_a: [A]
    case iclr(mix: [Element])
    /// 1 - omega + a
    case oneMinusOmega

    var mix: [Element]? {
        switch self {
        case .iclr(let mix): mix
        case .oneMinusOmega: nil
        }
    }
}

/// What is done to the heads' output in front of bonus and gate.
public enum OutputNorm<Element: Real>: Sendable {
    /// GroupNorm over each head: [A] each.
    case groupNorm(weight: [Element], bias: [Element], epsilon: Double)
    /// y / sqrt(N)
    case headScale

    var ofHeads: (weight: [Element], bias: [Element], epsilon: Double)? {
        switch self {
        case .groupNorm(let weight, let bias, let epsilon): (weight, bias, epsilon)
        case .headScale: nil
        }
    }
}
