import ModelFamilies
public import RWKVNumerics

/// An RWKV-7 time-mixing block, with the variant of each stage that its model family uses (RWKV-LM, RWKV-v7;
/// RWKVInside, TimeMixer.py).
public struct WKV7Mixer<Element: Real>: Sendable {
    /// The number of receptance heads (H).
    public var heads: Int
    /// The number of key-value heads (Hk), each shared by H / Hk receptance heads.
    public var keyValueHeads: Int
    /// The token shift, which computes the inputs of the projections.
    public var tokenShift: TokenShift<Element>
    /// The receptance projection W_r, [A, C].
    public var receptance: Linear<Element>
    /// The key projection W_k, [Hk N, C].
    public var key: Linear<Element>
    /// The value projection W_v, [Hk N, C].
    public var value: Linear<Element>
    /// The output projection W_o, [C, A].
    public var output: Linear<Element>
    /// The norms of receptance and key heads, which are applied before RoPE; nil if there are none.
    public var headNorms: HeadNorms<Element>?
    /// The projection that determines the decay: p = w0 + tanh(x w1) w2, and w = exp(-e^(-1/2) sigmoid(p)).
    public var decay: LowRank<Element>
    /// The projection that determines the in-context learning rate: a = sigmoid(a0 + x a1 a2).
    public var iclr: LowRank<Element>
    /// The factor of the heads' output.
    public var gate: Gate<Element>
    /// What is added to the values; nil if nothing is.
    public var valueResidual: ValueResidual<Element>?
    /// The residual that mixes in the first layer's keys (k_first) before key heads are repeated; nil if the layer has
    /// none.
    ///
    /// The layer that provides k_first does not use its key residual.
    public var keyResidual: Residual<Element>?
    /// The vector that the removal key kk is computed from.
    public var removalKey: RemovalKey<Element>
    /// The factor that scales the key.
    public var keyScale: KeyScale<Element>
    /// The norm that is applied to the output of each head.
    public var outputNorm: OutputNorm<Element>
    /// The bonus r_k, [H, N]; nil if there is none.
    public var bonus: [Element]?

    /// Creates a time-mixing block from the given parts, which must have matching sizes.
    public init(
        heads: Int, keyValueHeads: Int, tokenShift: TokenShift<Element>, receptance: Linear<Element>,
        key: Linear<Element>, value: Linear<Element>, output: Linear<Element>, headNorms: HeadNorms<Element>?,
        decay: LowRank<Element>, iclr: LowRank<Element>, gate: Gate<Element>,
        valueResidual: ValueResidual<Element>?, keyResidual: Residual<Element>?, removalKey: RemovalKey<Element>,
        keyScale: KeyScale<Element>, outputNorm: OutputNorm<Element>, bonus: [Element]?
    ) {
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
        self.keyResidual = keyResidual
        self.removalKey = removalKey
        self.keyScale = keyScale
        self.outputNorm = outputNorm
        self.bonus = bonus
    }

    var matrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        let lowRank = [decay, iclr] + [valueResidual?.projection, keyResidual?.share].compactMap { $0 }
        let gate = gate.matrices
        return (
            [receptance, key, value].map(\.weight) + lowRank.map(\.down) + gate.ofInput,
            [output.weight] + lowRank.map(\.up) + gate.others
        )
    }

    /// The intermediate values of a forward pass that the backward pass needs.
    struct Trace {
        let x, receptance, key, unscaledKey, p, y, output: Matrix<Element>
        let input: ProjectionInputs<Matrix<Element>>
        let sequences: Int
        /// Omega, or the decay w, which is subtracted in the scale of the key; nil if the scale is another.
        let subtrahend: Matrix<Element>?
        let gate: Matrix<Element>?
        let inputs: WKV7Inputs<Matrix<Element>>
        let checkpoints: WKV7Checkpoints<Element>
        let inner: (decay: Matrix<Element>, iclr: Matrix<Element>, gate: Matrix<Element>?)
        let valueResidual, keyResidual: Residual<Element>.Trace?
        /// The inner activations of a low-rank term that is added to the values; nil if there is none.
        let innerValue: Matrix<Element>?
        let rotation: Rotation<Element>?
        let givesFirst: Bool
    }

    /// Applies time mixing to the next tokens of a sequence.
    ///
    /// - Parameters:
    ///   - x: the mixer's input, [tokens, C].
    ///   - state: the layer's state; the state matrices and the token shift's previous input are updated.
    ///   - first: the first layer's keys and values; this layer sets both if no earlier layer has.
    ///   - rotation: the RoPE rotation of the tokens; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the mixer's output, [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        output(x, &state, first: &first, rotation: rotation, kernels, isTraced: false).0
    }

    /// Applies time mixing to complete sequences, starting from a zero state, and records a trace for the backward
    /// pass.
    func traced(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (y, trace) = output(x, &state, first: &first, rotation: rotation, kernels, isTraced: true)
        guard let trace else { preconditionFailure("no gradients for this kind of time mixing") }
        return (y, trace)
    }

    private func output(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>, isTraced: Bool
    ) -> (Matrix<Element>, Trace?) {
        let input = tokenShift(x, &state, kernels)
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
            switch valueResidual {
            case .beforeRepeat(let residual):
                (v, residuals.value) = residual(v, first: firstValues, input.value, kernels)
                v = repeated(v)
            case .afterRepeat(let residual):
                v = repeated(v)
                (v, residuals.value) = residual(v, first: repeated(firstValues), input.value, kernels)
            case .lowRank, nil: v = repeated(v)
            }
        } else {
            // The keys are copied because they are scaled in place below.
            (first, givesFirst) = (.known(keys: k.copy(), values: v), true)
            v = repeated(v)
        }
        var innerValue: Matrix<Element>?
        if case .lowRank(let projection) = valueResidual {
            let (term, inner) = projection(input.value, kernels)
            kernels.scale(inPlace: term, by: ValueResidual<Element>.factor)
            kernels.add(v, to: term)
            (v, innerValue) = (term, inner)
        }
        k = repeated(k)

        let (w, innerDecay) = decay(input.decay, kernels)
        let (p, unscaledKey) = isTraced ? (w.copy(), k.copy()) : (w, k)
        let omega = kernels.decay(inPlace: w, base: decay.base, returnsOmega: keyScale.usesOmega)
        let mix = keyScale.mix(width: w.columns)
        let subtrahend = mix == nil ? omega ?? w : nil
        let (a, innerICLR) = iclr(input.iclr, kernels)
        let removal = kernels.keys(
            inPlace: k, iclr: a, base: iclr.base, removalScale: removalKey.scale, mix: mix, omega: subtrahend,
            size: size)
        let inputs = WKV7Inputs(r: r, w: w, k: k, v: v, removal: removal, iclr: a)
        let (gate, innerGate) = gate(input.gate, kernels)
        func output(_ heads: Matrix<Element>) -> Matrix<Element> {
            kernels.headOutputs(
                inPlace: heads, norm: outputNorm.ofHeads, bonus: bonus.map { ($0, r, k, v) }, gate: gate, size: size)
            return self.output(heads, kernels)
        }
        guard isTraced else { return (output(kernels.wkv7(inputs, size: size, state: &state.matrices)), nil) }
        let (y, checkpoints) = kernels.wkv7(inputs, size: size, sequences: state.sequences)
        let outputs = y.copy()
        return (
            output(outputs),
            Trace(
                x: x, receptance: receptance, key: key, unscaledKey: unscaledKey, p: p, y: y, output: outputs,
                input: input, sequences: state.sequences,
                subtrahend: subtrahend, gate: gate, inputs: inputs, checkpoints: checkpoints,
                inner: (innerDecay, innerICLR, innerGate),
                valueResidual: residuals.value, keyResidual: residuals.key, innerValue: innerValue, rotation: rotation,
                givesFirst: givesFirst)
        )
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the weights to `gradients`.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, C].
    ///   - trace: the trace of the forward pass.
    ///   - first: the gradients of the first layer's keys and values; nil to detach both, as the published training
    ///     code does.
    ///   - gradients: the accumulators for the gradients of the weights.
    ///   - dx: the accumulator for the gradient of `x`, [tokens, C]; nil if that gradient is not needed.
    ///   - kernels: the kernels to use.
    func backward(
        _ dy: Matrix<Element>, _ trace: Trace, first: FirstGradients<Element>?, _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard let decayBase = decay.base else { preconditionFailure("no gradients for a decay without a base") }
        let inputs = trace.inputs
        let size = inputs.r.columns / heads
        let times = heads / keyValueHeads

        let dinputs = tokenShift.accumulators(for: trace.x, dx, gradients)
        let dheads = output.backward(dy, trace.output, (.timeMixOutputWeight, .timeMixOutputBias), gradients, kernels)
        let dbonus = kernels.headOutputsBackward(
            inPlace: dheads, trace.y, inputs, norm: outputNorm.ofHeads,
            normGradients: (gradients[.groupNormWeight], gradients[.groupNormBias]), bonus: bonus, gate: trace.gate,
            size: size, gradient: gradients[.bonus])
        let d = kernels.wkv7Backward(dheads, inputs, trace.checkpoints, added: (dbonus.r, dbonus.k, dbonus.v))
        // A key that is not scaled has a mix of zeros instead of a weight.
        let mixGradient = if case .iclr = keyScale { gradients[.keyICLRMix] } else { nil as Matrix<Element>? }
        let mix = keyScale.mix(width: d.k.columns).map { ($0, mixGradient) }
        let dsubtrahend = kernels.keysBackward(
            inPlace: d.k, inPlace: d.iclr, dremoval: d.removal, k: trace.unscaledKey, a: inputs.iclr,
            removal: inputs.removal, removalScale: removalKey.scale.map { ($0, gradients[.removalKeyScale]) }, mix: mix,
            omega: trace.subtrahend, size: size)
        if let dsubtrahend, !keyScale.usesOmega { kernels.add(dsubtrahend, to: d.w) }
        kernels.decayBackward(
            inPlace: d.w, p: trace.p, w: inputs.w, base: decayBase, domega: keyScale.usesOmega ? dsubtrahend : nil)

        gate.backward(
            dbonus.gate, trace.input.gate, gate: trace.gate, inner: trace.inner.gate, gradients, addingTo: dinputs.gate,
            kernels)
        iclr.backward(
            d.iclr, trace.input.iclr, inner: trace.inner.iclr, (.iclrBase, .iclrDown, .iclrUp), gradients,
            addingTo: dinputs.iclr, kernels)
        decay.backward(
            d.w, trace.input.decay, inner: trace.inner.decay, (.decayBase, .decayDown, .decayUp), gradients,
            addingTo: dinputs.decay, kernels)

        var (dr, dk, dv) = (d.r, kernels.repeatedBackward(d.k, size: size, times: times), d.v)
        let valueRoles: (TensorRole?, TensorRole, TensorRole) = (
            .valueResidualBase, .valueResidualDown, .valueResidualUp
        )
        func mixValues(_ residual: Residual<Element>, dfirst: Matrix<Element>?) {
            guard let own = trace.valueResidual else { return }
            residual.backward(
                inPlace: dv, trace.input.value, own, dfirst: dfirst, valueRoles, gradients, addingTo: dinputs.value,
                kernels)
        }
        switch valueResidual {
        case .beforeRepeat(let residual):
            dv = kernels.repeatedBackward(dv, size: size, times: times)
            mixValues(residual, dfirst: first?.values)
        case .afterRepeat(let residual):
            let dfirst = first.map { _ in Matrix<Element>(zeros: dv.rows, columns: dv.columns) }
            mixValues(residual, dfirst: dfirst)
            dv = kernels.repeatedBackward(dv, size: size, times: times)
            if let first, let dfirst {
                kernels.add(kernels.repeatedBackward(dfirst, size: size, times: times), to: first.values)
            }
        case .lowRank(let projection):
            if let inner = trace.innerValue {
                let dterm = dv.copy()
                kernels.scale(inPlace: dterm, by: ValueResidual<Element>.factor)
                projection.backward(
                    dterm, trace.input.value, inner: inner, (nil, .valueResidualDown, .valueResidualUp), gradients,
                    addingTo: dinputs.value, kernels)
            }
            dv = kernels.repeatedBackward(dv, size: size, times: times)
        case nil: dv = kernels.repeatedBackward(dv, size: size, times: times)
        }
        if let keyResidual, let own = trace.keyResidual {
            keyResidual.backward(
                inPlace: dk, trace.input.key, own, dfirst: first?.keys,
                (.keyResidualBase, .keyResidualDown, .keyResidualUp), gradients, addingTo: dinputs.key, kernels)
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
            dr, trace.input.receptance, (.receptanceWeight, .receptanceBias), gradients, addingTo: dinputs.receptance,
            kernels)
        key.backward(
            dk, trace.input.key, (.timeMixKeyWeight, .timeMixKeyBias), gradients, addingTo: dinputs.key, kernels)
        value.backward(
            dv, trace.input.value, (.timeMixValueWeight, .timeMixValueBias), gradients, addingTo: dinputs.value,
            kernels)
        tokenShift.backward(
            dinputs, trace.x, sequences: trace.sequences, gradients, addingTo: dx, kernels)
    }
}
