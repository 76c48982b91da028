import ModelFamilies
import RWKVNumerics

// Gradients of the time mixing of RAD-RWKV6. Without a bonus, the recurrence is that of RWKV-7 with removal keys of zero,
// whose gradients are computed here.
extension WKV6Mixer {
    /// The intermediate values of a forward pass that the backward pass needs.
    struct Trace {
        let x: Matrix<Element>
        let input: ProjectionInputs<Matrix<Element>>
        let sequences: Int
        let shift: DataDependentShift<Element>.Trace?
        /// The keys before they are balanced, and the input of the decay without its base.
        let unbalancedKey, p, innerDecay: Matrix<Element>
        let inputs: WKV7Inputs<Matrix<Element>>
        let checkpoints: WKV7Checkpoints<Element>
        /// The output of the recurrence, and the input of the output projection.
        let y, output: Matrix<Element>
        let gate, innerGate: Matrix<Element>?
        let rotation: Rotation<Element>?
    }

    /// Applies time mixing to complete sequences, starting from a zero state, and records a trace for the backward
    /// pass.
    func traced(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, rotation: Rotation<Element>?,
        _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        guard bonus == nil, case .lowRank(let projection, let floor) = decay, let base = projection.base else {
            preconditionFailure("no gradients for RWKV-5 and RWKV-6")
        }
        let (input, shift) = tokenShift(x, state, kernels, isTraced: true)
        let (r, k, v, size) = projected(input, rotation, kernels)
        let (w, innerDecay) = projection(input.decay, kernels)
        let p = w.copy()
        kernels.exponentialDecay(inPlace: w, base: base, floor: floor)
        let unbalancedKey = balancesKeys ? k.copy() : k
        if balancesKeys { kernels.balance(inPlace: k, decay: w) }
        let zeros = Matrix<Element>(zeros: w.rows, columns: w.columns)
        let inputs = WKV7Inputs(r: r, w: w, k: k, v: v, removal: zeros, iclr: zeros)
        let (y, checkpoints) = kernels.wkv7(inputs, size: size, sequences: state.sequences)
        let (gate, innerGate) = gate(input.gate, kernels)
        let heads = y.copy()
        kernels.headOutputs(inPlace: heads, norm: outputNorm.ofHeads, bonus: nil, gate: gate, size: size)
        return (
            output(heads, kernels),
            Trace(
                x: x, input: input, sequences: state.sequences, shift: shift, unbalancedKey: unbalancedKey, p: p,
                innerDecay: innerDecay, inputs: inputs, checkpoints: checkpoints, y: y, output: heads, gate: gate,
                innerGate: innerGate, rotation: rotation)
        )
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the weights to `gradients`.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, C].
    ///   - trace: the trace of the forward pass.
    ///   - gradients: the accumulators for the gradients of the weights.
    ///   - dx: the accumulator for the gradient of `x`, [tokens, C]; nil if that gradient is not needed.
    ///   - kernels: the kernels to use.
    func backward(
        _ dy: Matrix<Element>, _ trace: Trace, _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard case .lowRank(let projection, let floor) = decay, let base = projection.base else {
            preconditionFailure("no gradients for a fixed decay")
        }
        let (inputs, size) = (trace.inputs, trace.inputs.r.columns / heads)
        let dinputs = tokenShift.accumulators(for: trace.x, dx, gradients)
        let dheads = output.backward(dy, trace.output, (.timeMixOutputWeight, .timeMixOutputBias), gradients, kernels)
        let douter = kernels.headOutputsBackward(
            inPlace: dheads, trace.y, inputs, norm: outputNorm.ofHeads,
            normGradients: (gradients[.groupNormWeight], gradients[.groupNormBias]), bonus: nil, gate: trace.gate,
            size: size, gradient: nil)
        let d = kernels.wkv7Backward(
            dheads, inputs, trace.checkpoints, added: (douter.r, douter.k, douter.v))
        if balancesKeys {
            kernels.balanceBackward(inPlace: d.k, k: trace.unbalancedKey, decay: inputs.w, addingTo: d.w)
        }
        kernels.exponentialDecayBackward(inPlace: d.w, p: trace.p, base: base, floor: floor)
        gate.backward(
            douter.gate, trace.input.gate, gate: trace.gate, inner: trace.innerGate, gradients,
            addingTo: dinputs.gate, kernels)
        projection.backward(
            d.w, trace.input.decay, inner: trace.innerDecay, (.decayBase, .decayDown, .decayUp), gradients,
            addingTo: dinputs.decay, kernels)
        let times = heads / keyValueHeads
        let (dr, dk) = (d.r, kernels.repeatedBackward(d.k, size: size, times: times))
        let dv = kernels.repeatedBackward(d.v, size: size, times: times)
        trace.rotation?.backward(inPlace: dr, size: size, kernels)
        trace.rotation?.backward(inPlace: dk, size: size, kernels)
        receptance.backward(
            dr, trace.input.receptance, (.receptanceWeight, .receptanceBias), gradients, addingTo: dinputs.receptance,
            kernels)
        key.backward(
            dk, trace.input.key, (.timeMixKeyWeight, .timeMixKeyBias), gradients, addingTo: dinputs.key, kernels)
        value.backward(
            dv, trace.input.value, (.timeMixValueWeight, .timeMixValueBias), gradients, addingTo: dinputs.value,
            kernels)
        if case .dataDependent(let shift) = tokenShift, let own = trace.shift {
            shift.backward(
                dinputs, trace.x, own, sequences: trace.sequences, gradients, addingTo: dx, kernels)
        }
    }
}

extension WKV6Mixer.TokenShift {
    /// Returns the accumulators for the gradients of the projections' inputs, given that for the gradient of `x`.
    ///
    /// They are nil if those gradients are not needed.
    fileprivate func accumulators(
        for x: Matrix<Element>, _ dx: Matrix<Element>?, _ gradients: WeightGradients<Element>
    ) -> ProjectionInputs<Matrix<Element>?> {
        let roles: [TensorRole] = [
            .shiftInput, .shiftDown, .shiftUp, .shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftGate,
        ]
        guard case .dataDependent = self, dx != nil || roles.contains(where: { gradients[$0] != nil }) else {
            return ProjectionInputs(repeating: dx)
        }
        func zeros() -> Matrix<Element> { Matrix(zeros: x.rows, columns: x.columns) }
        return ProjectionInputs(
            receptance: zeros(), decay: zeros(), key: zeros(), value: zeros(), iclr: nil, gate: zeros())
    }
}

extension DataDependentShift {
    /// Adds the gradient of `x` to `dx`, and the gradients of the token shift's weights to `gradients`.
    fileprivate func backward(
        _ inputs: ProjectionInputs<Matrix<Element>?>, _ x: Matrix<Element>, _ trace: Trace, sequences: Int,
        _ gradients: WeightGradients<Element>, addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        let rank = trace.inner.columns / parts.count
        let dinner = Matrix<Element>(zeros: x.rows, columns: trace.inner.columns)
        for (number, part) in parts.enumerated() {
            guard let dy = inputs[part.role] ?? nil else { continue }
            let dshare = kernels.shiftBackward(
                dy, x, share: trace.shares[number], sequences: sequences, addingTo: dx)
            if let gradient = gradients[part.role] { kernels.addGradient(to: gradient, ofRows: dshare) }
            let columns = number * rank..<(number + 1) * rank
            if let gradient = gradients[.shiftUp] {
                let own = Matrix<Element>(zeros: rank, columns: x.columns)
                kernels.addGradient(to: own, of: part.up, dshare, trace.inner.columns(columns))
                gradient.addRows(from: columns.lowerBound, of: own)
            }
            dinner.replaceColumns(from: columns.lowerBound, by: kernels.product(dshare, part.up.transposed))
        }
        kernels.tanhBackward(inPlace: dinner, trace.inner)
        if let gradient = gradients[.shiftDown] { kernels.addGradient(to: gradient, of: down, dinner, trace.shifted) }
        let dshare = kernels.shiftBackward(
            kernels.product(dinner, down.transposed), x, share: Matrix(share, columns: x.columns),
            sequences: sequences, addingTo: dx)
        if let gradient = gradients[.shiftInput] { kernels.addGradient(to: gradient, ofRows: dshare) }
    }
}
