import CRWKVKernels

// Gradients of what the other files compute: `dy` stands for dL/dy. Sums over tokens are in one order for any number of threads.
extension Kernels {
    private static var gradientTile: Int { 128 }

    /// Adds a weight's gradient dy^T x, in the order in which the weight stands.
    ///
    /// - Parameters:
    ///   - gradient: as many numbers as the weight has.
    ///   - weight: what y = x W^T was made with.
    ///   - dy: [tokens, outputs].
    ///   - x: [tokens, inputs].
    public func addGradient(
        to gradient: Matrix<Element>, of weight: StoredMatrix, _ dy: Matrix<Element>, _ x: Matrix<Element>
    ) {
        let (a, b) = weight.isByInput ? (x, dy) : (dy, x)
        precondition(
            a.rows == b.rows && gradient.rows == a.columns && gradient.columns == b.columns, "matrices of other sizes")
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

    /// Adds all rows of `dy`, in parts of as many numbers as the gradient has: that of a bias.
    ///
    /// - Parameters:
    ///   - gradient: [1, width].
    ///   - dy: [tokens, parts width].
    public func addGradient(to gradient: Matrix<Element>, ofRows dy: Matrix<Element>) {
        let width = gradient.count
        precondition(width > 0 && dy.columns % width == 0, "a gradient of another size")
        let tiles = width.parts(of: Self.gradientTile)
        forEach(tiles.count) { piece in
            let start = tiles[piece].lowerBound
            functions.add_rows(
                dy.elements + start, dy.count / width, tiles[piece].count, width, gradient.elements + start)
        }
    }

    /// Of ``rmsNorm(_:weight:epsilon:)``.
    ///
    /// - Parameters:
    ///   - dy: [tokens, parts of the weight's width].
    ///   - x: what was normed.
    ///   - weight: what it was multiplied with.
    ///   - epsilon: as then.
    ///   - gradient: the weight's, to which its own is added; nil where it is frozen.
    /// - Returns: the gradient of x.
    public func rmsNormBackward(
        _ dy: Matrix<Element>, _ x: Matrix<Element>, weight: [Element], epsilon: Double, gradient: Matrix<Element>?
    ) -> Matrix<Element> {
        precondition(dy.count == x.count && x.columns % weight.count == 0, "matrices of other sizes")
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

    /// Of ``sigmoid(inPlace:)``, in the place of `dy`; `y` is what it gave.
    public func sigmoidBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>) {
        onto(dy, y) { functions.sigmoid_backward($0, $2, $1) }
    }

    /// Of ``tanh(inPlace:)``, in the place of `dy`; `y` is what it gave.
    public func tanhBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>) {
        onto(dy, y) { functions.tanh_backward($0, $2, $1) }
    }

    /// Of ``softcap(inPlace:cap:)``, in the place of `dy`; `y` is what it gave.
    public func softcapBackward(inPlace dy: Matrix<Element>, _ y: Matrix<Element>, cap: Double) {
        onto(dy, y) { functions.softcap_backward($0, $2, 1, cap, $1) }
    }

    /// Of ``swiGLU(up:gate:)``: the gradients of `up` and `gate` take their places.
    ///
    /// - Parameters:
    ///   - dy: [tokens, F].
    ///   - up: as it was.
    ///   - gate: as it was before.
    public func swiGLUBackward(_ dy: Matrix<Element>, up: Matrix<Element>, gate: Matrix<Element>) {
        inPlace(dy, up, gate) { functions.swiglu_backward($0, $3, $1, $2) }
    }

    /// Of ``geGLU(up:gate:)``: the gradients of `up` and `gate` take their places.
    ///
    /// - Parameters:
    ///   - dy: [tokens, F].
    ///   - up: as it was.
    ///   - gate: as it was before.
    public func geGLUBackward(_ dy: Matrix<Element>, up: Matrix<Element>, gate: Matrix<Element>) {
        inPlace(dy, up, gate) { functions.geglu_backward($0, $3, $1, $2) }
    }

    private func inPlace(
        _ dy: Matrix<Element>, _ up: Matrix<Element>, _ gate: Matrix<Element>,
        _ kernel: (UnsafePointer<Element>, UnsafeMutablePointer<Element>, UnsafeMutablePointer<Element>, Int) -> Void
    ) {
        precondition(up.count == dy.count && gate.count == dy.count, "matrices of other sizes")
        overRows(of: dy) { start, count in
            let offset = start * dy.columns
            kernel(dy.elements + offset, up.elements + offset, gate.elements + offset, count * dy.columns)
        }
    }

    /// Of ``repeated(_:size:times:)``.
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

    /// Of ``decay(inPlace:base:givesOmega:)``, in the place of `dw`.
    ///
    /// - Parameters:
    ///   - dw: [tokens, A]; becomes the gradient of p.
    ///   - p: as it was in front.
    ///   - w: the decay.
    ///   - base: [A].
    ///   - omega: the gradient of omega.
    public func decayBackward(
        inPlace dw: Matrix<Element>, p: Matrix<Element>, w: Matrix<Element>, base: [Element], omega: Matrix<Element>
    ) {
        precondition(
            [p, w, omega].allSatisfy { $0.count == dw.count } && base.count == dw.columns, "matrices of other sizes")
        overRows(of: dw) { start, count in
            let offset = start * dw.columns
            functions.decay_backward(
                base, p.elements + offset, w.elements + offset, omega.elements + offset, count, dw.columns,
                dw.elements + offset)
        }
    }

    /// Of ``mixed(_:first:share:base:)``, in the places of `dy` and `share`.
    ///
    /// - Parameters:
    ///   - dy: [tokens, A]; becomes the gradient of what was mixed.
    ///   - y: what was mixed.
    ///   - first: what with.
    ///   - share: how much; becomes its gradient.
    ///   - base: [A].
    ///   - dfirst: to which the gradient of `first` is added; nil where none passes.
    public func mixedBackward(
        inPlace dy: Matrix<Element>, _ y: Matrix<Element>, first: Matrix<Element>, share: Matrix<Element>,
        base: [Element], dfirst: Matrix<Element>?
    ) {
        precondition(
            [y, first, share].allSatisfy { $0.count == dy.count } && base.count == dy.columns
                && dfirst?.count ?? dy.count == dy.count, "matrices of other sizes")
        overRows(of: dy) { start, count in
            let offset = start * dy.columns
            functions.mix_residual_backward(
                first.elements + offset, y.elements + offset, base, count, dy.columns, share.elements + offset,
                dfirst.map { $0.elements + offset }, dy.elements + offset)
        }
    }

    /// Of ``keys(inPlace:iclr:base:removalScale:mix:omega:size:)`` with neither scale nor mix, in the places of `dk` and `da`.
    ///
    /// - Parameters:
    ///   - dk: of scaled keys, [tokens, heads N]; becomes that of keys in front.
    ///   - da: of in-context learning rates; becomes that of what they are the sigmoid of.
    ///   - dremoval: of removal keys.
    ///   - k: keys in front.
    ///   - a: in-context learning rates.
    ///   - removal: removal keys.
    ///   - omega: as then.
    ///   - size: channels of a head (N).
    /// - Returns: the gradient of omega.
    public func keysBackward(
        inPlace dk: Matrix<Element>, inPlace da: Matrix<Element>, dremoval: Matrix<Element>, k: Matrix<Element>,
        a: Matrix<Element>, removal: Matrix<Element>, omega: Matrix<Element>, size: Int
    ) -> Matrix<Element> {
        precondition(
            [da, dremoval, k, a, removal, omega].allSatisfy { $0.count == dk.count }, "matrices of other sizes")
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

    /// Of ``headOutputs(inPlace:norm:r:k:v:bonus:gate:size:)`` without a norm, in the place of `dy`.
    ///
    /// - Parameters:
    ///   - dy: [tokens, heads N]; becomes the gradient of what the recurrence gives.
    ///   - y: what the recurrence gave.
    ///   - inputs: of the recurrence.
    ///   - bonus: [heads, N].
    ///   - gate: what the sum was multiplied with.
    ///   - size: channels of a head (N).
    ///   - gradient: the bonus' own is added to it; nil where it is frozen.
    /// - Returns: the gradients of receptance, key and value as far as they are the bonus' doing, and that of the gate.
    public func headOutputsBackward(
        inPlace dy: Matrix<Element>, _ y: Matrix<Element>, _ inputs: WKV7Inputs<Matrix<Element>>, bonus: [Element],
        gate: Matrix<Element>, size: Int, gradient: Matrix<Element>?
    ) -> (r: Matrix<Element>, k: Matrix<Element>, v: Matrix<Element>, gate: Matrix<Element>) {
        precondition(
            y.count == dy.count && gate.count == dy.count && bonus.count == dy.columns, "matrices of other sizes")
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
