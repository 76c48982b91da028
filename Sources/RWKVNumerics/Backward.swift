import CRWKVKernels

// Gradients of the other files' kernels; `dy` means dL/dy. The order of sums over tokens does not depend on the number
// of threads.
extension Kernels {
    private static var gradientTile: Int { 128 }

    /// Adds a weight's gradient dy^T x, in the weight's storage order, to `gradient`.
    ///
    /// - Parameters:
    ///   - gradient: [outputs, inputs] or [inputs, outputs], as the weight is stored.
    ///   - weight: W in y = x W^T.
    ///   - dy: [tokens, outputs].
    ///   - x: [tokens, inputs].
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

    /// Adds a bias's gradient to `gradient`: the sum over all rows of `dy`, split into parts as wide as the gradient.
    ///
    /// - Parameters:
    ///   - gradient: [1, width].
    ///   - dy: [tokens, parts width].
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

    /// Computes the gradient of ``rmsNorm(_:weight:epsilon:)``.
    ///
    /// - Parameters:
    ///   - dy: the output's gradient, [tokens, parts width], where width is the weight's.
    ///   - x: the input, in the same shape.
    ///   - weight: the norm's weight.
    ///   - epsilon: as in the forward pass.
    ///   - gradient: accumulator for the weight's gradient; nil if the weight is frozen.
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

    /// Turns `dy` into the gradient of the input of ``sigmoid(inPlace:)``, whose output is `y`.
    public func sigmoidBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>) {
        onto(dy, y) { functions.sigmoid_backward($0, $2, $1) }
    }

    /// Turns `dy` into the gradient of the input of ``tanh(inPlace:)``, whose output is `y`.
    public func tanhBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>) {
        onto(dy, y) { functions.tanh_backward($0, $2, $1) }
    }

    /// Turns `dy` into the gradient of the input of ``softcap(inPlace:cap:)``, whose output is `y`.
    public func softcapBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>, cap: Double) {
        onto(dy, y) { functions.softcap_backward($0, $2, 1, cap, $1) }
    }

    /// Replaces the inputs `up` and `gate` of ``swiGLU(up:gate:)`` with their gradients.
    ///
    /// - Parameters:
    ///   - dy: the output's gradient, [tokens, F].
    ///   - up: as in the forward pass.
    ///   - gate: as before the forward pass.
    public func swiGLUBackward(_ dy: Matrix<Element>, up: Matrix<Element>, gate: Matrix<Element>) {
        inPlace(dy, up, gate) { functions.swiglu_backward($0, $3, $1, $2) }
    }

    /// Replaces the inputs `up` and `gate` of ``geGLU(up:gate:)`` with their gradients.
    ///
    /// - Parameters:
    ///   - dy: the output's gradient, [tokens, F].
    ///   - up: as in the forward pass.
    ///   - gate: as before the forward pass.
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

    /// Computes the gradient of ``repeated(_:size:times:)``: the sum over the copies of each head.
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

    /// Turns the gradient of the output w of ``decay(inPlace:base:returnsOmega:)`` into the gradient of its input p.
    ///
    /// - Parameters:
    ///   - dw: the gradient of w, [tokens, A]; becomes the gradient of p.
    ///   - p: the input p, without the base.
    ///   - w: the decay.
    ///   - base: w0, [A].
    ///   - omega: the gradient of omega.
    public func decayBackward(
        inPlace dw: Matrix<Element>, p: Matrix<Element>, w: Matrix<Element>, base: [Element], omega: Matrix<Element>
    ) {
        precondition(
            [p, w, omega].allSatisfy { $0.count == dw.count } && base.count == dw.columns, "mismatched matrix sizes")
        overRows(of: dw) { start, count in
            let offset = start * dw.columns
            functions.decay_backward(
                base, p.elements + offset, w.elements + offset, omega.elements + offset, count, dw.columns,
                dw.elements + offset)
        }
    }

    /// Replaces `dy` and `share` with the gradients of ``mixed(_:first:share:base:)``.
    ///
    /// - Parameters:
    ///   - dy: the output's gradient, [tokens, A]; becomes the gradient of `y`.
    ///   - y: the input y.
    ///   - first: the matrix mixed into `y`.
    ///   - share: the share of `first`, without the base; becomes the share's gradient.
    ///   - base: [A].
    ///   - dfirst: accumulator for the gradient of `first`; nil if not needed.
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

    /// Replaces `dk` and `da` with the gradients of ``keys(inPlace:iclr:base:removalScale:mix:omega:size:)``, for keys
    /// without removal scale and mix.
    ///
    /// - Parameters:
    ///   - dk: the gradient of the scaled keys, [tokens, heads N]; becomes the gradient of the unscaled keys.
    ///   - da: the gradient of the in-context learning rates a; becomes the gradient of the sigmoid's argument.
    ///   - dremoval: the gradient of the removal keys kk.
    ///   - k: the unscaled keys.
    ///   - a: the in-context learning rates.
    ///   - removal: the removal keys kk.
    ///   - omega: as in the forward pass.
    ///   - size: the number of channels per head (N).
    /// - Returns: the gradient of omega.
    public func keysBackward(
        inPlace dk: Matrix<Element>, inPlace da: Matrix<Element>, dremoval: Matrix<Element>, k: Matrix<Element>,
        a: Matrix<Element>, removal: Matrix<Element>, omega: Matrix<Element>, size: Int
    ) -> Matrix<Element> {
        precondition(
            [da, dremoval, k, a, removal, omega].allSatisfy { $0.count == dk.count }, "mismatched matrix sizes")
        let domega = Matrix<Element>(rows: dk.rows, columns: dk.columns)
        overRows(of: dk) { start, count in
            let offset = start * dk.columns
            functions.keys_backward(
                k.elements + offset, a.elements + offset, removal.elements + offset, omega.elements + offset,
                dremoval.elements + offset, count, dk.columns / size, size, dk.elements + offset, da.elements + offset,
                domega.elements + offset)
        }
        return domega
    }

    /// Computes the gradients of ``headOutputs(inPlace:norm:r:k:v:bonus:gate:size:)`` without a norm.
    ///
    /// - Parameters:
    ///   - dy: the output's gradient, [tokens, heads N]; becomes the gradient of the recurrence's output.
    ///   - y: the recurrence's output.
    ///   - inputs: the recurrence's inputs.
    ///   - bonus: r_k, [heads, N].
    ///   - gate: as in the forward pass.
    ///   - size: the number of channels per head (N).
    ///   - gradient: accumulator for the bonus's gradient; nil if the bonus is frozen.
    /// - Returns: the gradients of r, k and v through the bonus term, and the gradient of the gate.
    public func headOutputsBackward(
        inPlace dy: Matrix<Element>, _ y: Matrix<Element>, _ inputs: WKV7Inputs<Matrix<Element>>, bonus: [Element],
        gate: Matrix<Element>, size: Int, gradient: Matrix<Element>?
    ) -> (r: Matrix<Element>, k: Matrix<Element>, v: Matrix<Element>, gate: Matrix<Element>) {
        precondition(
            y.count == dy.count && gate.count == dy.count && bonus.count == dy.columns, "mismatched matrix sizes")
        func matrix() -> Matrix<Element> { Matrix(rows: dy.rows, columns: dy.columns) }
        let (dr, dk, dv, dgate) = (matrix(), matrix(), matrix(), matrix())
        let parts = gradient == nil ? nil : matrix()
        let (r, k, v) = (inputs.r, inputs.k, inputs.v)
        overRows(of: dy) { start, count in
            let offset = start * dy.columns
            functions.head_outputs_backward(
                r.elements + offset, k.elements + offset, v.elements + offset, bonus, gate.elements + offset,
                y.elements + offset, count, dy.columns / size, size, dy.elements + offset, dr.elements + offset,
                dk.elements + offset, dv.elements + offset, dgate.elements + offset, parts.map { $0.elements + offset })
        }
        if let gradient, let parts { addGradient(to: gradient, ofRows: parts) }
        return (dr, dk, dv, dgate)
    }
}
