import ModelFamilies
public import RWKVNumerics

/// A time-mixing block of RWKV-5 or RWKV-6 (RWKV-LM, RWKV-v5/src/model.py).
public struct WKV6Mixer<Element: Real>: Sendable {
    /// The number of heads (H).
    public var heads: Int
    /// The token shift, which computes the inputs of the projections.
    public var tokenShift: TokenShift
    /// The receptance projection W_r, [A, C].
    public var receptance: Linear<Element>
    /// The key projection W_k, [A, C].
    public var key: Linear<Element>
    /// The value projection W_v, [A, C].
    public var value: Linear<Element>
    /// The gate projection W_g, [A, C]; the gate is silu(W_g x).
    public var gate: Linear<Element>
    /// The output projection W_o, [C, A].
    public var output: Linear<Element>
    /// The decay of the state.
    public var decay: Decay
    /// The bonus u, [H, N].
    public var bonus: [Element]
    /// The GroupNorm with one group per head; the weight and bias are [A] each.
    public var groupNorm: (weight: [Element], bias: [Element], epsilon: Double)

    /// The token shift, which computes the inputs of the projections.
    public enum TokenShift: Sendable {
        /// RWKV-5: projection j receives x + (x_prev - x) share_j; the shares are [C] each.
        case fixed(receptance: [Element], key: [Element], value: [Element], gate: [Element])
        /// RWKV-6: projection j receives x + (x_prev - x) (base_j + m_j), and the decay's projection is one of them.
        case dataDependent(DataDependentShift<Element>)
    }

    /// The decay w of the state.
    public enum Decay: Sendable {
        /// The same decay for all tokens, [A].
        case fixed([Element])
        /// w = exp(-exp(base + tanh(x down) up)), where x is the decay's token shift.
        case lowRank(LowRank<Element>)
    }

    /// Creates a time-mixing block from the given parts, which must have matching sizes.
    public init(
        heads: Int, tokenShift: TokenShift, receptance: Linear<Element>, key: Linear<Element>, value: Linear<Element>,
        gate: Linear<Element>, output: Linear<Element>, decay: Decay, bonus: [Element],
        groupNorm: (weight: [Element], bias: [Element], epsilon: Double)
    ) {
        self.heads = heads
        self.tokenShift = tokenShift
        self.receptance = receptance
        self.key = key
        self.value = value
        self.gate = gate
        self.output = output
        self.decay = decay
        self.bonus = bonus
        self.groupNorm = groupNorm
    }

    var matrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        var matrices = (
            ofInput: [receptance, key, value, gate].map(\.weight), others: [output.weight]
        )
        if case .dataDependent(let shift) = tokenShift {
            matrices.ofInput.append(shift.down)
            matrices.others += shift.parts.map(\.up)
        }
        if case .lowRank(let decay) = decay {
            matrices.ofInput.append(decay.down)
            matrices.others.append(decay.up)
        }
        return matrices
    }

    /// Applies time mixing to the next tokens of a sequence.
    ///
    /// - Parameters:
    ///   - x: the mixer's input, [tokens, C].
    ///   - state: the layer's state; the state matrices and the token shift's previous input are updated.
    ///   - kernels: the kernels to use.
    /// - Returns: the mixer's output, [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        let input = tokenShift(x, previous: state.mixerShift, kernels)
        state.mixerShift = x.row(x.rows - 1)
        let (r, k, v) = (
            receptance(input.receptance, kernels), key(input.key, kernels), value(input.value, kernels)
        )
        let w = decay(input.decay, kernels)
        let size = r.columns / heads
        let y = kernels.wkv6(
            WKV6Inputs(r: r, w: w, k: k, v: v, bonus: bonus), size: size, state: &state.matrices)
        kernels.headOutputs(inPlace: y, norm: groupNorm, bonus: nil, gate: nil, size: size)
        let gate = gate(input.gate, kernels)
        kernels.swiGLU(up: y, gate: gate)
        return output(gate, kernels)
    }
}

extension WKV6Mixer.TokenShift {
    /// The inputs of the projections, [tokens, C] each; a fixed decay has none.
    fileprivate struct Inputs {
        let receptance, key, value, gate: Matrix<Element>
        var decay: Matrix<Element>?
    }

    fileprivate func callAsFunction(
        _ x: Matrix<Element>, previous: [Element], _ kernels: Kernels<Element>
    ) -> Inputs {
        switch self {
        case .fixed(let receptance, let key, let value, let gate):
            let shifted = kernels.shifted(x, previous: previous, shares: [receptance, key, value, gate])
            return Inputs(receptance: shifted[0], key: shifted[1], value: shifted[2], gate: shifted[3])
        case .dataDependent(let shift):
            let shifted = shift(x, previous: previous, kernels)
            return Inputs(
                receptance: shifted[3], key: shifted[1], value: shifted[2], gate: shifted[4], decay: shifted[0])
        }
    }
}

extension WKV6Mixer.Decay {
    /// Returns the decay w, [tokens, A], or [1, A] if it is fixed.
    fileprivate func callAsFunction(_ x: Matrix<Element>?, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .fixed(let decay): return Matrix(decay, columns: decay.count)
        case .lowRank(let projection):
            guard let x, let base = projection.base else { preconditionFailure("a decay without an input or a base") }
            let (w, _) = projection(x, kernels)
            kernels.exponentialDecay(inPlace: w, base: base)
            return w
        }
    }
}

/// The token shift of RWKV-6, whose shares of the previous token depend on the tokens (RWKV-LM, RWKV-v5/src/model.py).
///
/// The shares are base_j + m_j, where m_j is part j of tanh((x + (x_prev - x) share) down) times up_j.
public struct DataDependentShift<Element: Real>: Sendable {
    /// The shares of the previous token in the input of the low-rank projections (time_maa_x), [C].
    public var share: [Element]
    /// The first low-rank matrices, [C, 5 D].
    public var down: StoredMatrix
    /// The second low-rank matrix, [D, C], and the base of the shares, [C], of each part.
    public var parts: [(up: StoredMatrix, base: [Element])]

    /// Creates a token shift; the parts are those of the decay, key, value, receptance and gate, in this order.
    public init(share: [Element], down: StoredMatrix, parts: [(up: StoredMatrix, base: [Element])]) {
        precondition(parts.count == 5, "five projections have token shifts")
        self.share = share
        self.down = down
        self.parts = parts
    }

    /// Returns the input of each part's projection, [tokens, C] each.
    func callAsFunction(
        _ x: Matrix<Element>, previous: [Element], _ kernels: Kernels<Element>
    ) -> [Matrix<Element>] {
        let inner = kernels.product(kernels.shifted(x, previous: previous, shares: [share])[0], down)
        kernels.tanh(inPlace: inner)
        let rank = inner.columns / parts.count
        let shifted = parts.enumerated().map { number, part in
            kernels.product(inner.columns(number * rank..<(number + 1) * rank), part.up)
        }
        kernels.shift(inPlace: shifted, x, previous: previous, bases: parts.map(\.base))
        return shifted
    }
}
