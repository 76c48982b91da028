public import RWKVNumerics

/// What follows the mixer in each layer.
public enum FeedForward<Element: Real>: Sendable {
    /// down(silu(gate x) up x)
    case swiGLU(gate: Linear<Element>, up: Linear<Element>, down: Linear<Element>)
    /// value(relu(key(x + (previous - x) share))^2) (RWKV-LM, RWKV-v7.)
    case channelMix(share: [Element], key: Linear<Element>, value: Linear<Element>)

    var matrices: [StoredMatrix] {
        switch self {
        case .swiGLU(let gate, let up, let down): [gate, up, down].map(\.weight)
        case .channelMix(_, let key, let value): [key, value].map(\.weight)
        }
    }

    /// [tokens, C], normed, to the same.
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        switch self {
        case .swiGLU(let gate, let up, let down):
            let inner = gate(x, kernels)
            kernels.swiGLU(up: up(x, kernels), gate: inner)
            return down(inner, kernels)
        case .channelMix(let share, let key, let value):
            let shifted = kernels.shifted(x, previous: state.feedForwardShift, shares: [share])[0]
            state.feedForwardShift = x.row(x.rows - 1)
            let inner = key(shifted, kernels)
            kernels.reluSquared(inPlace: inner)
            return value(inner, kernels)
        }
    }
}
