import ModelFamilies
public import RWKVNumerics

// The stages of time mixing that differ between models. Each enum case is a variant of a stage, with its weights.

/// The token shift, which computes the inputs of the projections.
public enum TokenShift<Element: Real>: Sendable {
    /// No token shift: every projection receives the mixer's input unchanged.
    case none
    /// Linear interpolation with the input at the previous token, x_prev: projection j receives x + (x_prev - x) x_j.
    ///
    /// The coefficients x_r, x_w, x_k, x_v, x_a and x_g are [C] each.
    case lerp(
        receptance: [Element], decay: [Element], key: [Element], value: [Element], iclr: [Element], gate: [Element])

    /// The inputs of the projections, [tokens, C] each.
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

/// A residual that mixes in the first layer's values or keys: y + (first - y) sigmoid(base + x down up).
public struct Residual<Element: Real>: Sendable {
    /// The low-rank projection whose sigmoid is the share of the first layer's values or keys.
    public let share: LowRank<Element>

    /// Creates a residual whose share is computed by the given projection.
    public init(share: LowRank<Element>) { self.share = share }

    /// The intermediate values of a forward pass that the backward pass needs.
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

    /// Replaces `dy` with the gradient of `y`, and adds the gradients of `x` and of the first layer's values or keys to
    /// `dx` and `dfirst`.
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

/// What time mixing adds to the values.
public enum ValueResidual<Element: Real>: Sendable {
    /// The first layer's values (v_first) are mixed in before value heads are repeated.
    ///
    /// The layer that provides v_first does not mix in any.
    case beforeRepeat(Residual<Element>)
    /// The first layer's values are mixed in after value heads are repeated.
    case afterRepeat(Residual<Element>)
    /// 0.2 x v1 v2 is added after value heads are repeated.
    case lowRank(LowRank<Element>)

    /// The factor of the low-rank term.
    static var factor: Double { 0.2 }

    /// The low-rank projection from which the residual is computed.
    var projection: LowRank<Element> {
        switch self {
        case .beforeRepeat(let residual), .afterRepeat(let residual): residual.share
        case .lowRank(let projection): projection
        }
    }
}

/// The vector whose heads are L2-normalised to give the removal key kk.
public enum RemovalKey<Element: Real>: Sendable {
    case key
    /// key * k_k, where k_k is [A].
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
    /// 1 + (a - 1) k_a, where k_a is [A].
    case iclr(mix: [Element])
    /// 1 - omega + a, where omega is given by the decay w = exp(-exp(omega)).
    case oneMinusOmega
    /// 1 - w + a, where w is the decay.
    case oneMinusDecay

    var usesOmega: Bool {
        if case .oneMinusOmega = self { true } else { false }
    }

    var mix: [Element]? {
        switch self {
        case .iclr(let mix): mix
        case .oneMinusOmega, .oneMinusDecay: nil
        }
    }
}

/// The norm of the output of each head, which is applied before the bonus is added and the gate is applied.
public enum OutputNorm<Element: Real>: Sendable {
    /// GroupNorm with one group per head; the weight and bias are [A] each.
    case groupNorm(weight: [Element], bias: [Element], epsilon: Double)
    /// Division by a constant instead of a norm: y / sqrt(N).
    case headScale

    var ofHeads: (weight: [Element], bias: [Element], epsilon: Double)? {
        switch self {
        case .groupNorm(let weight, let bias, let epsilon): (weight, bias, epsilon)
        case .headScale: nil
        }
    }
}
