import ModelFamilies
public import RWKVNumerics

// The stages of time mixing that have variants, each variant with its weights.

/// The token shift, which computes the inputs of the projections.
public enum TokenShift<Element: Real>: Sendable {
    /// No shift: every projection sees the normalised input.
    case none
    /// x + (x_prev - x) x_j, where each projection has its own share x_j, [C]: x_r, x_w, x_k, x_v, x_a, x_g.
    case lerp(
        receptance: [Element], decay: [Element], key: [Element], value: [Element], iclr: [Element], gate: [Element])

    /// The input of each projection: [tokens, C].
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

/// A residual that mixes in a share of the first layer's values (v_first) or keys: y + (first - y) sigmoid(base + x
/// down up).
public struct Residual<Element: Real>: Sendable {
    /// The share before the sigmoid is applied.
    public let share: LowRank<Element>

    /// Creates a residual with the given share.
    public init(share: LowRank<Element>) { self.share = share }

    /// Intermediate values kept for the backward pass.
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

    /// Replaces `dy` with the gradient of `y`; adds the gradient of `x` to `dx`, and the gradient of the first layer's
    /// values or keys to `dfirst`.
    func backward(
        inPlace dy: Matrix<Element>, _ x: Matrix<Element>, _ trace: Trace, dfirst: Matrix<Element>?,
        _ roles: (base: TensorRole?, down: TensorRole, up: TensorRole), _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard let base = share.base else { preconditionFailure("no gradients for a share without a base") }
        kernels.mixedBackward(
            inPlace: dy, trace.y, first: trace.first, share: trace.share, base: base, dfirst: dfirst)
        share.backward(trace.share, x, inner: trace.inner, roles, gradients, addingTo: dx, kernels)
    }
}

/// The vector that is normalised head by head to give the removal key kk.
public enum RemovalKey<Element: Real>: Sendable {
    case key
    /// key * k_k, where k_k is [A]
    case scaledKey([Element])

    var scale: [Element]? {
        switch self {
        case .key: nil
        case .scaledKey(let scale): scale
        }
    }
}

/// The factor that scales the key.
public enum KeyScale<Element: Real>: Sendable {
    /// 1 + (a - 1) k_a, where k_a is [A]
    case iclr(mix: [Element])
    /// 1 - omega + a, where w = exp(-exp(omega))
    case oneMinusOmega

    var mix: [Element]? {
        switch self {
        case .iclr(let mix): mix
        case .oneMinusOmega: nil
        }
    }
}

/// The norm of the heads' output, applied before the bonus and gate.
public enum OutputNorm<Element: Real>: Sendable {
    /// GroupNorm with one head per group; weight and bias are [A].
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
