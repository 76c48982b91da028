public import ModelFamilies
public import RWKVNumerics

/// Time mixing around the recurrence of RWKV-7, as its family has the stages. (RWKV-LM, RWKV-v7; RWKVInside, TimeMixer.py.)
public struct TimeMix<Element: Real>: Sendable {
    /// Heads of receptance.
    public var heads: Int
    /// Heads of keys and values, before they are repeated.
    public var keyValueHeads: Int
    /// What the projections see.
    public var tokenShift: TokenShift<Element>
    /// W_r: [A, C].
    public var receptance: Linear<Element>
    /// W_k: [Hk N, C].
    public var key: Linear<Element>
    /// W_v: [Hk N, C].
    public var value: Linear<Element>
    /// W_o: [C, A].
    public var output: Linear<Element>
    /// In front of the rotation; nil for none.
    public var headNorms: HeadNorms<Element>?
    /// p = w0 + tanh(x w1) w2.
    public var decay: LowRank<Element>
    /// a0 + x a1 a2, before the sigmoid.
    public var iclr: LowRank<Element>
    /// sigmoid(x g1) g2.
    public var gate: LowRank<Element>
    /// Of the first layer's values; nil in that layer.
    public var valueResidual: Residual<Element>?
    /// Whether values are mixed before they are repeated for their group of heads.
    public var valueResidualPlace: TimeMix7.ValueResidual
    /// Of the first layer's keys, before they are repeated; nil in that layer, and where there is none.
    public var keyResidual: Residual<Element>?
    /// What becomes the removal key.
    public var removalKey: RemovalKey<Element>
    /// What the key is multiplied with.
    public var keyScale: KeyScale<Element>
    /// What is done to the heads' output.
    public var outputNorm: OutputNorm<Element>
    /// r_k: [H, N].
    public var bonus: [Element]

    /// Time mixing of parts that go together.
    public init(
        heads: Int, keyValueHeads: Int, tokenShift: TokenShift<Element>, receptance: Linear<Element>,
        key: Linear<Element>, value: Linear<Element>, output: Linear<Element>, headNorms: HeadNorms<Element>?,
        decay: LowRank<Element>, iclr: LowRank<Element>, gate: LowRank<Element>, valueResidual: Residual<Element>?,
        valueResidualPlace: TimeMix7.ValueResidual, keyResidual: Residual<Element>?, removalKey: RemovalKey<Element>,
        keyScale: KeyScale<Element>, outputNorm: OutputNorm<Element>, bonus: [Element]
    ) {
        precondition(gate.base == nil, "gates have no base")
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.tokenShift = tokenShift
        self.receptance = receptance
        self.key = key
        self.value = value
        self.output = output
        self.headNorms = headNorms
        self.decay = decay
        self.iclr = iclr
        self.gate = gate
        self.valueResidual = valueResidual
        self.valueResidualPlace = valueResidualPlace
        self.keyResidual = keyResidual
        self.removalKey = removalKey
        self.keyScale = keyScale
        self.outputNorm = outputNorm
        self.bonus = bonus
    }

    var matrices: [StoredMatrix] {
        let lowRank = [decay, iclr, gate] + [valueResidual, keyResidual].compactMap { $0?.share }
        return [receptance, key, value, output].map(\.weight) + lowRank.flatMap { [$0.down, $0.up] }
    }

    /// - Parameters:
    ///   - x: [tokens, C], normed.
    ///   - state: of the recurrence and the token shift; carried on.
    ///   - first: the first layer's keys and values, which this layer gives where none has.
    ///   - rotation: of these tokens; nil for none.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        let input = tokenShift(x, &state.mixerShift, kernels)
        var r = receptance(input.receptance, kernels)
        var k = key(input.key, kernels)
        var v = value(input.value, kernels)
        let size = r.columns / heads
        if let norms = headNorms {
            r = kernels.rmsNorm(r, weight: norms.query, epsilon: norms.epsilon)
            k = kernels.rmsNorm(k, weight: norms.key, epsilon: norms.epsilon)
        }
        rotation?.apply(to: r, size: size, kernels)
        rotation?.apply(to: k, size: size, kernels)

        let repeated = { kernels.repeated($0, size: size, times: heads / keyValueHeads) }
        if case .known(let firstKeys, let firstValues) = first {
            if let keyResidual { k = keyResidual(k, first: firstKeys, input.key, kernels) }
            switch valueResidualPlace {
            case .beforeRepeat:
                if let valueResidual { v = valueResidual(v, first: firstValues, input.value, kernels) }
                v = repeated(v)
            case .afterRepeat:
                v = repeated(v)
                if let valueResidual { v = valueResidual(v, first: repeated(firstValues), input.value, kernels) }
            }
        } else {
            // Keys are scaled in place below.
            first = .known(keys: k.copy(), values: v)
            v = repeated(v)
        }
        k = repeated(k)

        let w = decay(input.decay, kernels)
        let omega = kernels.decay(inPlace: w, base: decay.base, givesOmega: keyScale.mix == nil)
        let a = iclr(input.iclr, kernels)
        let removal = kernels.keys(
            inPlace: k, iclr: a, base: iclr.base, removalScale: removalKey.scale, mix: keyScale.mix, omega: omega,
            size: size)
        let y = kernels.wkv7(
            .init(r: r, w: w, k: k, v: v, removal: removal, iclr: a), size: size, state: &state.matrices)
        kernels.headOutputs(
            inPlace: y, norm: outputNorm.ofHeads, r: r, k: k, v: v, bonus: bonus, gate: gate(input.gate, kernels),
            size: size)
        return output(y, kernels)
    }
}
