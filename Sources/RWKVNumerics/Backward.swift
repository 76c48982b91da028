import CRWKVKernels

// Gradients of the kernels in the other files. `dy` stands for dL/dy. The order in which sums over tokens are computed
// does not depend on the number of threads.
extension Kernels {
    private static var gradientTile: Int { 128 }

    /// Adds the gradient of a weight, dy^T x, to `gradient`.
    ///
    /// - Parameters:
    ///   - gradient: the accumulator, [outputs, inputs] or [inputs, outputs], in the order in which the weight is
    ///     stored.
    ///   - weight: the weight W in y = x W^T.
    ///   - dy: the gradient of the output, [tokens, outputs].
    ///   - x: the input, [tokens, inputs].
    public func addGradient(
        to gradient: Matrix<Element>, of weight: StoredMatrix, _ dy: Matrix<Element>, _ x: Matrix<Element>
    ) {
        let (a, b) = weight.isInputMajor ? (x, dy) : (dy, x)
        precondition(
            a.rows == b.rows && gradient.rows == a.columns && gradient.columns == b.columns, "mismatched matrix sizes")
        let tiles = a.columns.parts(of: Self.gradientTile)
        forEach(tiles.count) { piece in
            let start = tiles[piece].lowerBound
            multiply(
                (tiles[piece].count, b.columns, a.rows),
                Factor(a.elements + start, stride: a.columns, isTransposed: true),
                Factor(b.elements, stride: b.columns), into: gradient.elements + start * b.columns, stride: b.columns,
                adds: true)
        }
    }

    /// Adds the gradient of a bias, which is the sum of all rows of `dy`, to `gradient`.
    ///
    /// If rows are wider than `gradient`, they are split into parts of its width, and all parts are added.
    ///
    /// - Parameters:
    ///   - gradient: the accumulator, [1, width].
    ///   - dy: the gradient of the output, [tokens, parts * width].
    public func addGradient(to gradient: Matrix<Element>, ofRows dy: Matrix<Element>) {
        let width = gradient.count
        precondition(width > 0 && dy.columns % width == 0, "gradient size does not match")
        let tiles = width.parts(of: Self.gradientTile)
        forEach(tiles.count) { piece in
            let start = tiles[piece].lowerBound
            functions.add_rows(
                dy.elements + start, dy.count / width, tiles[piece].count, width, gradient.elements + start)
        }
    }

    /// Computes the gradients of ``rmsNorm(_:weight:epsilon:)``.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, parts * width], where width is the number of weights.
    ///   - x: the input, with the same shape.
    ///   - weight: the weight of the norm.
    ///   - epsilon: the epsilon of the forward pass.
    ///   - gradient: the accumulator for the gradient of the weight; nil if the weight is frozen.
    /// - Returns: the gradient of x.
    public func rmsNormBackward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, weight: [Element], epsilon: Double, gradient: Matrix<Element>?
    ) -> Matrix<Element> {
        precondition(dy.count == x.count && x.columns % weight.count == 0, "mismatched matrix sizes")
        let dx = Matrix<Element>(rows: x.rows, columns: x.columns)
        let parts = gradient == nil ? nil : Matrix<Element>(rows: x.rows, columns: x.columns)
        overRows(of: x) { start, count in
            let offset = start * x.columns
            functions.rms_norm_backward(
                x.elements + offset, dy.elements + offset, count * x.columns / weight.count, weight.count, weight,
                epsilon, dx.elements + offset, parts.map { $0.elements + offset })
        }
        if let gradient, let parts { addGradient(to: gradient, ofRows: parts) }
        return dx
    }

    /// Replaces `dy` with the gradient of the input of ``sigmoid(inPlace:)``, given its output `y`.
    public func sigmoidBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>) {
        onto(dy, y) { functions.sigmoid_backward($0, $2, $1) }
    }

    /// Replaces `dy` with the gradient of the input of ``tanh(inPlace:)``, given its output `y`.
    public func tanhBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>) {
        onto(dy, y) { functions.tanh_backward($0, $2, $1) }
    }

    /// Replaces `dy` with the gradient of the input of ``softcap(inPlace:cap:)``, given its output `y`.
    public func softcapBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>, cap: Double) {
        onto(dy, y) { functions.softcap_backward($0, $2, 1, cap, $1) }
    }

    /// Replaces the inputs `up` and `gate` of ``swiGLU(up:gate:)`` with their gradients.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, F].
    ///   - up: the input `up`; replaced with its gradient.
    ///   - gate: the input `gate` as it was before the forward pass overwrote it; replaced with its gradient.
    public func swiGLUBackward(_ dy: Matrix<Element>, up: Matrix<Element>, gate: Matrix<Element>) {
        inPlace(dy, up, gate) { functions.swiglu_backward($0, $3, $1, $2) }
    }

    /// Replaces the inputs `up` and `gate` of ``geGLU(up:gate:)`` with their gradients.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, F].
    ///   - up: the input `up`; replaced with its gradient.
    ///   - gate: the input `gate` as it was before the forward pass overwrote it; replaced with its gradient.
    public func geGLUBackward(_ dy: Matrix<Element>, up: Matrix<Element>, gate: Matrix<Element>) {
        inPlace(dy, up, gate) { functions.geglu_backward($0, $3, $1, $2) }
    }

    private func inPlace(
        _ dy: Matrix<Element>, _ up: Matrix<Element>, _ gate: Matrix<Element>,
        _ kernel: (UnsafePointer<Element>, UnsafeMutablePointer<Element>, UnsafeMutablePointer<Element>, Int) -> Void
    ) {
        precondition(up.count == dy.count && gate.count == dy.count, "mismatched matrix sizes")
        overRows(of: dy) { start, count in
            let offset = start * dy.columns
            kernel(dy.elements + offset, up.elements + offset, gate.elements + offset, count * dy.columns)
        }
    }

    /// Returns the gradient of the input of ``repeated(_:size:times:)``: the sum over the copies of each head.
    public func repeatedBackward(_ dy: Matrix<Element>, size: Int, times: Int) -> Matrix<Element> {
        guard times > 1 else { return dy }
        let dx = Matrix<Element>(rows: dy.rows, columns: dy.columns / times)
        overRows(of: dy) { start, count in
            functions.sum_heads(
                dy.elements + start * dy.columns, count, dx.columns / size, size, times,
                dx.elements + start * dx.columns)
        }
        return dx
    }

    // MARK: Time mixing

    /// Replaces `dw` with the gradient of the input p of ``decay(inPlace:base:returnsOmega:)``.
    ///
    /// - Parameters:
    ///   - dw: the gradient of w, [tokens, A]; replaced with the gradient of p.
    ///   - p: the input p, which does not include the base.
    ///   - w: the output w, which is the decay.
    ///   - base: the base w0, [A].
    ///   - domega: the gradient of omega; nil if omega was not used.
    public func decayBackward(
        inPlace dw: Matrix<Element>, p: Matrix<Element>, w: Matrix<Element>, base: [Element], domega: Matrix<Element>?
    ) {
        precondition(
            [p, w, domega].allSatisfy { $0?.count ?? dw.count == dw.count } && base.count == dw.columns,
            "mismatched matrix sizes")
        overRows(of: dw) { start, count in
            let offset = start * dw.columns
            functions.decay_backward(
                base, p.elements + offset, w.elements + offset, domega.map { $0.elements + offset }, count, dw.columns,
                dw.elements + offset)
        }
    }

    /// Replaces `dw` with the gradient of the input p of ``exponentialDecay(inPlace:base:floor:)``.
    ///
    /// The gradient is zero where the floor applied.
    ///
    /// - Parameters:
    ///   - dw: the gradient of the decay, [tokens, A]; replaced with the gradient of p.
    ///   - p: the input p, which does not include the base.
    ///   - base: the base, [A].
    ///   - floor: the least logarithm of the decay.
    public func exponentialDecayBackward(
        inPlace dw: Matrix<Element>, p: Matrix<Element>, base: [Element], floor: Double
    ) {
        precondition(p.count == dw.count && base.count == dw.columns, "mismatched matrix sizes")
        overRows(of: dw) { start, count in
            let offset = start * dw.columns
            functions.exponential_decay_backward(
                base, p.elements + offset, floor, count, dw.columns, dw.elements + offset)
        }
    }

    /// Computes the gradients of ``balance(inPlace:decay:)``; replaces `dk`.
    ///
    /// - Parameters:
    ///   - dk: the gradient of the balanced keys, [tokens, A]; replaced with the gradient of the keys.
    ///   - k: the keys before they were balanced.
    ///   - w: the decay.
    ///   - dw: the accumulator for the gradient of the decay.
    public func balanceBackward(
        inPlace dk: Matrix<Element>, k: Matrix<Element>, decay w: Matrix<Element>, addingTo dw: Matrix<Element>
    ) {
        precondition([k, w, dw].allSatisfy { $0.count == dk.count }, "mismatched matrix sizes")
        overRows(of: dk) { start, count in
            let offset = start * dk.columns
            functions.balance_backward(
                k.elements + offset, w.elements + offset, count * dk.columns, dk.elements + offset, dw.elements + offset
            )
        }
    }

    /// Computes the gradients of a token shift x + (x_prev - x) * share over whole sequences that start from zero.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, C].
    ///   - x: the input, [tokens, C].
    ///   - share: the share of the preceding row: [tokens, C], or [1, C] if it is the same for all rows.
    ///   - sequences: the number of sequences of equal length that are concatenated in x.
    ///   - dx: the accumulator for the gradient of x; nil if that gradient is not needed.
    /// - Returns: the gradient of the share for each row, [tokens, C].
    public func shiftBackward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, share: Matrix<Element>, sequences: Int,
        addingTo dx: Matrix<Element>?
    ) -> Matrix<Element> {
        precondition(
            dy.count == x.count && (share.count == x.count || share.count == x.columns)
                && dx?.count ?? x.count == x.count, "mismatched matrix sizes")
        let dshare = Matrix<Element>(rows: x.rows, columns: x.columns)
        let stride = share.rows == 1 ? 0 : x.columns
        let zeros = Matrix<Element>(zeros: 1, columns: x.columns)
        overRows(of: x, sequences: sequences) { start, count, isFirst, isLast in
            let offset = start * x.columns
            let rows = x.elements + offset
            functions.token_shift_backward(
                rows, isFirst ? zeros.elements : rows - x.columns, share.elements + start * stride, stride,
                dy.elements + offset, count, x.columns, isLast ? 0 : 1, dx.map { $0.elements + offset },
                dshare.elements + offset)
        }
        return dshare
    }

    /// Computes the gradients of ``mixed(_:first:share:base:)``; replaces `dy` and `share`.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, A]; replaced with the gradient of `y`.
    ///   - y: the input `y`.
    ///   - first: the matrix that was mixed into `y`.
    ///   - share: the share of `first`, which does not include the base; replaced with its gradient.
    ///   - base: the base, [A].
    ///   - dfirst: the accumulator for the gradient of `first`; nil if that gradient is not needed.
    public func mixedBackward(
        inPlace dy: Matrix<Element>, _ y: Matrix<Element>, first: Matrix<Element>, share: Matrix<Element>,
        base: [Element], dfirst: Matrix<Element>?
    ) {
        precondition(
            [y, first, share].allSatisfy { $0.count == dy.count } && base.count == dy.columns
                && dfirst?.count ?? dy.count == dy.count, "mismatched matrix sizes")
        overRows(of: dy) { start, count in
            let offset = start * dy.columns
            functions.mix_residual_backward(
                first.elements + offset, y.elements + offset, base, count, dy.columns, share.elements + offset,
                dfirst.map { $0.elements + offset }, dy.elements + offset)
        }
    }

    /// Computes the gradients of ``keys(inPlace:iclr:base:removalScale:mix:omega:size:)``; replaces `dk` and `da`.
    ///
    /// - Parameters:
    ///   - dk: the gradient of the scaled keys, [tokens, heads * N]; replaced with the gradient of the unscaled keys.
    ///   - da: the gradient of the in-context learning rates; replaced with the gradient of the sigmoid's argument.
    ///   - dremoval: the gradient of the removal keys kk.
    ///   - k: the unscaled keys.
    ///   - a: the in-context learning rates.
    ///   - removal: the removal keys kk.
    ///   - removalScale: k_k, [heads * N], and the accumulator for its gradient; nil for none.
    ///   - mix: k_a, [heads * N], and the accumulator for its gradient; nil for none.
    ///   - omega: the omega of the forward pass, or the decay w; nil if there is a mix.
    ///   - size: the number of channels per head (N).
    /// - Returns: the gradient of omega, or of the decay through the scaled keys; nil if there is a mix.
    public func keysBackward(
        inPlace dk: Matrix<Element>, inPlace da: Matrix<Element>, dremoval: Matrix<Element>, k: Matrix<Element>,
        a: Matrix<Element>, removal: Matrix<Element>, removalScale: (weight: [Element], gradient: Matrix<Element>?)?,
        mix: (weight: [Element], gradient: Matrix<Element>?)?, omega: Matrix<Element>?, size: Int
    ) -> Matrix<Element>? {
        precondition(
            [da, dremoval, k, a, removal, omega].allSatisfy { $0?.count ?? dk.count == dk.count }
                && [removalScale?.weight, mix?.weight].allSatisfy { $0?.count ?? dk.columns == dk.columns }
                && (mix == nil) == (omega != nil), "mismatched matrix sizes")
        func matrix(_ isNeeded: Bool) -> Matrix<Element>? {
            isNeeded ? Matrix(rows: dk.rows, columns: dk.columns) : nil
        }
        let domega = matrix(omega != nil)
        let (scaleParts, mixParts) = (matrix(removalScale != nil), matrix(mix?.gradient != nil))
        overRows(of: dk) { start, count in
            let offset = start * dk.columns
            func part(_ matrix: Matrix<Element>?) -> UnsafeMutablePointer<Element>? {
                matrix.map { $0.elements + offset }
            }
            functions.keys_backward(
                k.elements + offset, a.elements + offset, removal.elements + offset, removalScale?.weight, mix?.weight,
                part(omega), dremoval.elements + offset, count, dk.columns / size, size, dk.elements + offset,
                da.elements + offset, part(domega), part(scaleParts), part(mixParts))
        }
        if let gradient = removalScale?.gradient, let scaleParts { addGradient(to: gradient, ofRows: scaleParts) }
        if let gradient = mix?.gradient, let mixParts { addGradient(to: gradient, ofRows: mixParts) }
        return domega
    }

    /// The gradients of ``headOutputs(inPlace:norm:bonus:gate:size:)`` through the bonus and the gate.
    public struct HeadOutputGradients {
        /// The gradients of the receptance, the scaled key and the value, [tokens, heads * N] each.
        public let r, k, v: Matrix<Element>
        /// The gradient of the gate; nil if there is none.
        public let gate: Matrix<Element>?
    }

    /// Computes the gradients of ``headOutputs(inPlace:norm:bonus:gate:size:)``; replaces `dy`.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, heads * N]; replaced with the gradient of the recurrence's output.
    ///   - y: the output of the recurrence.
    ///   - inputs: the inputs of the recurrence.
    ///   - norm: the norm of each head.
    ///   - normGradients: the accumulators for the gradients of the norm's weight and bias; nil for frozen ones.
    ///   - bonus: the bonus r_k, [heads, N]; nil if there is none.
    ///   - gate: the gate of the forward pass; nil if there is none.
    ///   - size: the number of channels per head (N).
    ///   - gradient: the accumulator for the gradient of the bonus; nil if the bonus is frozen.
    /// - Returns: the gradients of r, k and v through the bonus term, and the gradient of the gate.
    public func headOutputsBackward(
        inPlace dy: Matrix<Element>, _ y: Matrix<Element>, _ inputs: WKV7Inputs<Matrix<Element>>,
        norm: HeadOutputNorm<Element>, normGradients: (weight: Matrix<Element>?, bias: Matrix<Element>?),
        bonus: [Element]?, gate: Matrix<Element>?, size: Int, gradient: Matrix<Element>?
    ) -> HeadOutputGradients {
        precondition(
            y.count == dy.count && gate?.count ?? dy.count == dy.count && bonus?.count ?? dy.columns == dy.columns,
            "mismatched matrix sizes")
        func matrix() -> Matrix<Element> { Matrix(rows: dy.rows, columns: dy.columns) }
        let (dr, dk, dv, dgate) = (matrix(), matrix(), matrix(), gate.map { _ in matrix() })
        let parts = bonus == nil || gradient == nil ? nil : matrix()
        let (r, k, v) = (inputs.r, inputs.k, inputs.v)
        var normed = y
        if norm.weight != nil {
            normed = y.copy()
            headOutputs(inPlace: normed, norm: norm, bonus: nil, gate: nil, size: size)
        }
        let (input, scale) = (normed, norm.scale(size: size))
        overRows(of: dy) { start, count in
            let offset = start * dy.columns
            functions.head_outputs_backward(
                r.elements + offset, k.elements + offset, v.elements + offset, bonus, scale,
                gate.map { $0.elements + offset }, input.elements + offset, count, dy.columns / size, size,
                dy.elements + offset, dr.elements + offset, dk.elements + offset, dv.elements + offset,
                dgate.map { $0.elements + offset }, parts.map { $0.elements + offset })
        }
        if let gradient, let parts { addGradient(to: gradient, ofRows: parts) }
        if let weight = norm.weight {
            if let bias = normGradients.bias { addGradient(to: bias, ofRows: dy) }
            let parts = matrix()
            overRows(of: dy) { start, count in
                let offset = start * dy.columns
                functions.head_norm_backward(
                    y.elements + offset, weight, norm.epsilon, count, dy.columns / size, size, dy.elements + offset,
                    parts.elements + offset)
            }
            if let gradient = normGradients.weight { addGradient(to: gradient, ofRows: parts) }
        }
        return HeadOutputGradients(r: dr, k: dk, v: dv, gate: dgate)
    }
}
