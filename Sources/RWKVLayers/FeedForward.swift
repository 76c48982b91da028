public import ModelFamilies
public import RWKVNumerics

/// The feed-forward block, which follows the token mixer in each layer.
public enum FeedForward<Element: Real>: Sendable {
    /// A SwiGLU or GeGLU block: down(f(gate(x)) * up(x)).
    case gated(FeedForwardSpec.Activation, gate: Linear<Element>, up: Linear<Element>, down: Linear<Element>)
    /// Channel mixing: value(relu(key(x + (x_prev - x) share))^2), which RWKV-5 and RWKV-6 multiply by the sigmoid of
    /// the receptance (RWKV-LM, RWKV-v5 and RWKV-v7).
    case channelMix(
        share: [Element], key: Linear<Element>, value: Linear<Element>,
        receptance: (share: [Element], weight: Linear<Element>)?)

    /// All weight matrices of the block.
    public var matrices: [StoredMatrix] {
        switch self {
        case .gated(_, let gate, let up, let down): [gate, up, down].map(\.weight)
        case .channelMix(_, let key, let value, let receptance):
            ([key, value] + (receptance.map { [$0.weight] } ?? [])).map(\.weight)
        }
    }

    /// The intermediate values of a forward pass that the backward pass needs.
    struct Trace {
        let x, gate, up, inner: Matrix<Element>
    }

    /// Applies the block to its input x, [tokens, C], and returns the output, [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        switch self {
        case .gated(let activation, let gate, let up, let down):
            let inner = gate(x, kernels)
            activation.apply(up: up(x, kernels), gate: inner, kernels)
            return down(inner, kernels)
        case .channelMix(let share, let key, let value, let receptance):
            let shares = [share] + (receptance.map { [$0.share] } ?? [])
            let shifted = kernels.shifted(x, previous: state.feedForwardShift, shares: shares)
            state.feedForwardShift = x.row(x.rows - 1)
            let inner = key(shifted[0], kernels)
            kernels.reluSquared(inPlace: inner)
            let y = value(inner, kernels)
            if let receptance { kernels.multiply(y, bySigmoidOf: receptance.weight(shifted[1], kernels)) }
            return y
        }
    }

    /// Applies a gated block to its input x, [tokens, C], and returns the output together with a trace for the backward
    /// pass.
    func traced(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> (Matrix<Element>, Trace) {
        guard case .gated(let activation, let gateLinear, let upLinear, let down) = self else { Self.hasNone() }
        let (gate, up) = (gateLinear(x, kernels), upLinear(x, kernels))
        let inner = gate.copy()
        activation.apply(up: up, gate: inner, kernels)
        return (down(inner, kernels), Trace(x: x, gate: gate, up: up, inner: inner))
    }

    /// Returns the gradient of `x` given `dy`, the gradient of the output, and adds the gradients of the weights to
    /// `gradients`.
    ///
    /// A trace can be used only once, because this method overwrites its matrices.
    func backward(
        _ dy: Matrix<Element>, _ trace: Trace, _ gradients: WeightGradients<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        guard case .gated(let activation, let gate, let up, let down) = self else { Self.hasNone() }
        let dinner = down.backward(dy, trace.inner, (.feedForwardDown, nil), gradients, kernels)
        activation.backward(dinner, up: trace.up, gate: trace.gate, kernels)
        let dx = gate.backward(trace.gate, trace.x, (.feedForwardGate, nil), gradients, kernels)
        up.backward(trace.up, trace.x, (.feedForwardUp, nil), gradients, addingTo: dx, kernels)
        return dx
    }

    private static func hasNone() -> Never { preconditionFailure("no gradients for channel mixing") }
}

extension FeedForwardSpec.Activation {
    /// Computes f(gate) * up, and stores the result in `gate`.
    fileprivate func apply<Element: Real>(up: Matrix<Element>, gate: Matrix<Element>, _ kernels: Kernels<Element>) {
        switch self {
        case .silu: kernels.swiGLU(up: up, gate: gate)
        case .geluTanh: kernels.geGLU(up: up, gate: gate)
        }
    }

    /// Replaces `up` and `gate` with their gradients, given `dy`, the gradient of f(gate) * up.
    fileprivate func backward<Element: Real>(
        _ dy: Matrix<Element>, up: Matrix<Element>, gate: Matrix<Element>, _ kernels: Kernels<Element>
    ) {
        switch self {
        case .silu: kernels.swiGLUBackward(dy, up: up, gate: gate)
        case .geluTanh: kernels.geGLUBackward(dy, up: up, gate: gate)
        }
    }
}
