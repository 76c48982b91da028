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

    var matrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        let lowRank = [decay, iclr, gate] + [valueResidual, keyResidual].compactMap { $0?.share }
        return ([receptance, key, value].map(\.weight) + lowRank.map(\.down), [output.weight] + lowRank.map(\.up))
    }

    /// What gradients need.
    struct Trace {
        let x, receptance, key, keyInFront, p, omega, y, gate, output: Matrix<Element>
        let inputs: WKV7Inputs<Matrix<Element>>
        let checkpoints: WKV7Checkpoints<Element>
        let inner: (decay: Matrix<Element>, iclr: Matrix<Element>, gate: Matrix<Element>)
        let valueResidual, keyResidual: Residual<Element>.Trace?
        let rotation: Rotation<Element>?
        let givesFirst: Bool
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
        mixed(x, &state, first: &first, rotation: rotation, kernels, isTraced: false).0
    }

    /// Whole sequences, from no state on, and what their gradients need.
    func traced(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (y, trace) = mixed(x, &state, first: &first, rotation: rotation, kernels, isTraced: true)
        guard let trace else { preconditionFailure("a stage of time mixing that no student has") }
        return (y, trace)
    }

    private func mixed(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>, isTraced: Bool
    ) -> (Matrix<Element>, Trace?) {
        let input = tokenShift(x, &state.mixerShift, kernels)
        let (receptance, key) = (receptance(input.receptance, kernels), key(input.key, kernels))
        var (r, k) = headNorms?(receptance, key, kernels) ?? (receptance, key)
        var v = value(input.value, kernels)
        let size = r.columns / heads
        rotation?.apply(to: r, size: size, kernels)
        rotation?.apply(to: k, size: size, kernels)

        var givesFirst = false
        var residuals: (value: Residual<Element>.Trace?, key: Residual<Element>.Trace?)
        let repeated = { kernels.repeated($0, size: size, times: heads / keyValueHeads) }
        if case .known(let firstKeys, let firstValues) = first {
            if let keyResidual { (k, residuals.key) = keyResidual(k, first: firstKeys, input.key, kernels) }
            switch valueResidualPlace {
            case .beforeRepeat:
                if let valueResidual {
                    (v, residuals.value) = valueResidual(v, first: firstValues, input.value, kernels)
                }
                v = repeated(v)
            case .afterRepeat:
                v = repeated(v)
                if let valueResidual {
                    (v, residuals.value) = valueResidual(v, first: repeated(firstValues), input.value, kernels)
                }
            }
        } else {
            // Keys are scaled in place below.
            (first, givesFirst) = (.known(keys: k.copy(), values: v), true)
            v = repeated(v)
        }
        k = repeated(k)

        let (w, innerDecay) = decay(input.decay, kernels)
        let (p, keyInFront) = isTraced ? (w.copy(), k.copy()) : (w, k)
        let omega = kernels.decay(inPlace: w, base: decay.base, givesOmega: keyScale.mix == nil)
        let (a, innerICLR) = iclr(input.iclr, kernels)
        let removal = kernels.keys(
            inPlace: k, iclr: a, base: iclr.base, removalScale: removalKey.scale, mix: keyScale.mix, omega: omega,
            size: size)
        let inputs = WKV7Inputs(r: r, w: w, k: k, v: v, removal: removal, iclr: a)
        let (gate, innerGate) = gate(input.gate, kernels)
        func output(_ heads: Matrix<Element>) -> Matrix<Element> {
            kernels.headOutputs(
                inPlace: heads, norm: outputNorm.ofHeads, r: r, k: k, v: v, bonus: bonus, gate: gate, size: size)
            return self.output(heads, kernels)
        }
        guard isTraced, let omega, case .none = tokenShift, case .key = removalKey, case .headScale = outputNorm
        else { return (output(kernels.wkv7(inputs, size: size, state: &state.matrices)), nil) }
        let (y, checkpoints) = kernels.wkv7(inputs, size: size, sequences: state.sequences)
        let outputs = y.copy()
        return (
            output(outputs),
            Trace(
                x: x, receptance: receptance, key: key, keyInFront: keyInFront, p: p, omega: omega, y: y, gate: gate,
                output: outputs, inputs: inputs, checkpoints: checkpoints, inner: (innerDecay, innerICLR, innerGate),
                valueResidual: residuals.value, keyResidual: residuals.key, rotation: rotation, givesFirst: givesFirst)
        )
    }

    /// Adds the gradient of `x` by that of what came out to `dx`, and those of its weights to theirs.
    ///
    /// - Parameters:
    ///   - dy: [tokens, C].
    ///   - trace: what was kept.
    ///   - first: gradients of the first keys and values; nil where none pass, as published.
    ///   - gradients: of the weights.
    ///   - dx: [tokens, C]; nil where it is of no use.
    ///   - kernels: what it is computed with.
    func backward(
        _ dy: Matrix<Element>, _ trace: Trace, first: FirstGradients<Element>?, _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard let decayBase = decay.base else { preconditionFailure("a decay without a base, which no student has") }
        let inputs = trace.inputs
        let size = inputs.r.columns / heads
        let times = heads / keyValueHeads

        let dheads = output.backward(dy, trace.output, (.timeMixOutputWeight, .timeMixOutputBias), gradients, kernels)
        let dbonus = kernels.headOutputsBackward(
            inPlace: dheads, trace.y, inputs, bonus: bonus, gate: trace.gate, size: size, gradient: gradients[.bonus])
        let d = kernels.wkv7Backward(dheads, inputs, trace.checkpoints, added: (dbonus.r, dbonus.k, dbonus.v))
        let domega = kernels.keysBackward(
            inPlace: d.k, inPlace: d.iclr, dremoval: d.removal, k: trace.keyInFront, a: inputs.iclr,
            removal: inputs.removal, omega: trace.omega, size: size)
        kernels.decayBackward(inPlace: d.w, p: trace.p, w: inputs.w, base: decayBase, omega: domega)

        gate.backward(
            dbonus.gate, trace.x, inner: trace.inner.gate, (nil, .gateDown, .gateUp), gradients, addingTo: dx, kernels)
        iclr.backward(
            d.iclr, trace.x, inner: trace.inner.iclr, (.iclrBase, .iclrDown, .iclrUp), gradients, addingTo: dx, kernels)
        decay.backward(
            d.w, trace.x, inner: trace.inner.decay, (.decayBase, .decayDown, .decayUp), gradients, addingTo: dx,
            kernels)

        var (dr, dk, dv) = (d.r, kernels.repeatedBackward(d.k, size: size, times: times), d.v)
        let valueRoles: (TensorRole?, TensorRole, TensorRole) = (
            .valueResidualBase, .valueResidualDown, .valueResidualUp
        )
        func mixValues(dfirst: Matrix<Element>?) {
            guard let valueResidual, let own = trace.valueResidual else { return }
            valueResidual.backward(
                inPlace: dv, trace.x, own, dfirst: dfirst, valueRoles, gradients, addingTo: dx, kernels)
        }
        switch valueResidualPlace {
        case .beforeRepeat:
            dv = kernels.repeatedBackward(dv, size: size, times: times)
            mixValues(dfirst: first?.values)
        case .afterRepeat:
            let dfirst = first.map { _ in Matrix<Element>(zeros: dv.rows, columns: dv.columns) }
            mixValues(dfirst: dfirst)
            dv = kernels.repeatedBackward(dv, size: size, times: times)
            if let first, let dfirst {
                kernels.add(kernels.repeatedBackward(dfirst, size: size, times: times), to: first.values)
            }
        }
        if let keyResidual, let own = trace.keyResidual {
            keyResidual.backward(
                inPlace: dk, trace.x, own, dfirst: first?.keys,
                (.keyResidualBase, .keyResidualDown, .keyResidualUp), gradients, addingTo: dx, kernels)
        }
        if trace.givesFirst, let first {
            kernels.add(first.keys, to: dk)
            kernels.add(first.values, to: dv)
        }
        trace.rotation?.backward(inPlace: dr, size: size, kernels)
        trace.rotation?.backward(inPlace: dk, size: size, kernels)
        if let headNorms {
            (dr, dk) = headNorms.backward(
                dr, dk, trace.receptance, trace.key, (.receptanceNorm, .timeMixKeyNorm), gradients, kernels)
        }
        receptance.backward(
            dr, trace.x, (.receptanceWeight, .receptanceBias), gradients, addingTo: dx, kernels)
        key.backward(dk, trace.x, (.timeMixKeyWeight, .timeMixKeyBias), gradients, addingTo: dx, kernels)
        value.backward(dv, trace.x, (.timeMixValueWeight, .timeMixValueBias), gradients, addingTo: dx, kernels)
    }
}
