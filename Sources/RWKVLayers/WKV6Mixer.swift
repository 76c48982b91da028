public import ModelFamilies
public import RWKVNumerics

/// A time-mixing block of RWKV-5, RWKV-6 or RAD-RWKV6 (RWKV-LM, RWKV-v5/src/model.py; RADLADS, rwkv6qwen2).
public struct WKV6Mixer<Element: Real>: Sendable {
    /// The number of receptance heads (H).
    public var heads: Int
    /// The number of key-value heads (Hk), each shared by H / Hk receptance heads.
    public var keyValueHeads: Int
    /// The token shift, which computes the inputs of the projections.
    public var tokenShift: TokenShift
    /// The receptance projection W_r, [A, C].
    public var receptance: Linear<Element>
    /// The key projection W_k, [Hk N, C].
    public var key: Linear<Element>
    /// The value projection W_v, [Hk N, C].
    public var value: Linear<Element>
    /// The factor of the heads' output.
    public var gate: Gate<Element>
    /// The output projection W_o, [C, A].
    public var output: Linear<Element>
    /// The decay of the state.
    public var decay: Decay
    /// Whether the key is multiplied by 1 - w.
    public var balancesKeys: Bool
    /// The bonus u, [H, N]; nil if the output reads the updated state.
    public var bonus: [Element]?
    /// The norm that is applied to the output of each head.
    public var outputNorm: OutputNorm<Element>

    /// The token shift, which computes the inputs of the projections.
    public enum TokenShift: Sendable {
        /// Every projection receives the mixer's input unchanged.
        case none
        /// RWKV-5: projection j receives x + (x_prev - x) share_j; the shares are [C] each.
        case fixed(receptance: [Element], key: [Element], value: [Element], gate: [Element])
        /// RWKV-6: projection j receives x + (x_prev - x) (base_j + m_j), and the decay's projection is one of them.
        case dataDependent(DataDependentShift<Element>)
    }

    /// The decay w of the state.
    public enum Decay: Sendable {
        /// The same decay for all tokens, [A].
        case fixed([Element])
        /// w = exp(max(-exp(base + tanh(x down) up), floor)), where x is the decay's token shift.
        case lowRank(LowRank<Element>, floor: Double)
    }

    /// Creates a time-mixing block from the given parts, which must have matching sizes.
    public init(
        heads: Int, keyValueHeads: Int, tokenShift: TokenShift, receptance: Linear<Element>, key: Linear<Element>,
        value: Linear<Element>, gate: Gate<Element>, output: Linear<Element>, decay: Decay, balancesKeys: Bool,
        bonus: [Element]?, outputNorm: OutputNorm<Element>
    ) {
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.tokenShift = tokenShift
        self.receptance = receptance
        self.key = key
        self.value = value
        self.gate = gate
        self.output = output
        self.decay = decay
        self.balancesKeys = balancesKeys
        self.bonus = bonus
        self.outputNorm = outputNorm
    }

    var matrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        var matrices = gate.matrices
        matrices.ofInput += [receptance, key, value].map(\.weight)
        matrices.others.append(output.weight)
        if case .dataDependent(let shift) = tokenShift {
            matrices.ofInput.append(shift.down)
            matrices.others += shift.parts.map(\.up)
        }
        if case .lowRank(let decay, _) = decay {
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
    ///   - rotation: the RoPE rotation of the tokens; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the mixer's output, [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, rotation: Rotation<Element>?,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        let (input, _) = tokenShift(x, state, kernels, isTraced: false)
        state.mixerShift = x.row(x.rows - 1)
        let (r, k, v, size) = projected(input, rotation, kernels)
        let w = decay(input.decay, kernels)
        if balancesKeys { kernels.balance(inPlace: k, decay: w) }
        let y = kernels.wkv6(
            WKV6Inputs(r: r, w: w, k: k, v: v, bonus: bonus), size: size, state: &state.matrices)
        let (gate, _) = gate(input.gate, kernels)
        kernels.headOutputs(inPlace: y, norm: outputNorm.ofHeads, bonus: nil, gate: gate, size: size)
        return output(y, kernels)
    }

    /// Returns the receptance, key and value, [tokens, A] each, after RoPE and after keys and values are repeated, and
    /// the head size.
    func projected(
        _ input: ProjectionInputs<Matrix<Element>>, _ rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (r: Matrix<Element>, k: Matrix<Element>, v: Matrix<Element>, size: Int) {
        let (r, k) = (receptance(input.receptance, kernels), key(input.key, kernels))
        let (size, times) = (r.columns / heads, heads / keyValueHeads)
        rotation?.apply(to: r, size: size, kernels)
        rotation?.apply(to: k, size: size, kernels)
        return (
            r, kernels.repeated(k, size: size, times: times),
            kernels.repeated(value(input.value, kernels), size: size, times: times), size
        )
    }
}

extension WKV6Mixer.TokenShift {
    func callAsFunction(
        _ x: Matrix<Element>, _ state: LayerState<Element>, _ kernels: Kernels<Element>, isTraced: Bool
    ) -> (ProjectionInputs<Matrix<Element>>, DataDependentShift<Element>.Trace?) {
        switch self {
        case .none: return (ProjectionInputs(repeating: x), nil)
        case .fixed(let receptance, let key, let value, let gate):
            let shifted = kernels.shifted(
                x, previous: state.mixerShift, shares: [receptance, key, value, gate], sequences: state.sequences)
            return (
                ProjectionInputs(
                    receptance: shifted[0], decay: x, key: shifted[1], value: shifted[2], iclr: x, gate: shifted[3]),
                nil
            )
        case .dataDependent(let shift):
            let (shifted, trace) = shift(x, state, kernels, isTraced: isTraced)
            func input(_ role: TensorRole) -> Matrix<Element> {
                guard let part = shift.parts.firstIndex(where: { $0.role == role }) else {
                    preconditionFailure("a projection without a token shift")
                }
                return shifted[part]
            }
            return (
                ProjectionInputs(
                    receptance: input(.shiftReceptance), decay: input(.shiftDecay), key: input(.shiftKey),
                    value: input(.shiftValue), iclr: x, gate: input(.shiftGate)),
                trace
            )
        }
    }
}

extension WKV6Mixer.Decay {
    /// Returns the decay w, [tokens, A], or [1, A] if it is fixed.
    fileprivate func callAsFunction(_ x: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        switch self {
        case .fixed(let decay): return Matrix(decay, columns: decay.count)
        case .lowRank(let projection, let floor):
            guard let base = projection.base else { preconditionFailure("a decay without a base") }
            let (w, _) = projection(x, kernels)
            kernels.exponentialDecay(inPlace: w, base: base, floor: floor)
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
    /// The role of the base, the second low-rank matrix, [D, C], and the base of the shares, [C], of each part.
    public var parts: [(role: TensorRole, up: StoredMatrix, base: [Element])]

    /// Creates a token shift with the parts of five projections, in the order of their columns in `down`.
    public init(share: [Element], down: StoredMatrix, parts: [(role: TensorRole, up: StoredMatrix, base: [Element])]) {
        precondition(parts.count == 5, "five projections have token shifts")
        self.share = share
        self.down = down
        self.parts = parts
    }

    /// The intermediate values of a forward pass that the backward pass needs.
    struct Trace {
        /// The input of the low-rank projections, and the inner activations.
        let shifted, inner: Matrix<Element>
        /// The shares of the previous token for each part, [tokens, C] each.
        let shares: [Matrix<Element>]
    }

    /// Returns the input of each part's projection, [tokens, C] each, and a trace if `isTraced`.
    func callAsFunction(
        _ x: Matrix<Element>, _ state: LayerState<Element>, _ kernels: Kernels<Element>, isTraced: Bool
    ) -> ([Matrix<Element>], Trace?) {
        let (previous, sequences) = (state.mixerShift, state.sequences)
        let shifted = kernels.shifted(x, previous: previous, shares: [share], sequences: sequences)[0]
        let inner = kernels.product(shifted, down)
        kernels.tanh(inPlace: inner)
        let rank = inner.columns / parts.count
        let inputs = parts.enumerated().map { number, part in
            kernels.product(inner.columns(number * rank..<(number + 1) * rank), part.up)
        }
        var trace: Trace?
        if isTraced {
            let shares = inputs.map { $0.copy() }
            for (share, part) in zip(shares, parts) { kernels.add(bias: part.base, to: share) }
            trace = Trace(shifted: shifted, inner: inner, shares: shares)
        }
        kernels.shift(inPlace: inputs, x, previous: previous, bases: parts.map(\.base), sequences: sequences)
        return (inputs, trace)
    }
}
