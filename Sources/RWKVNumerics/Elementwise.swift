import CRWKVKernels

// Embedding lookup, norms, elementwise functions and RoPE. Matrices of shape `[tokens, ...]` have one row per token.
extension Kernels {
    /// Returns rows of a stored matrix, such as an embedding, widened to `Element`.
    ///
    /// - Parameters:
    ///   - weight: the matrix, stored as [outputs, inputs].
    ///   - rows: the indices of the rows, such as token ids.
    /// - Returns: the rows in the order of their indices, [rows, inputs].
    @specialized(where Element == Float)
    public func gather(_ weight: StoredMatrix, rows: [Int]) -> Matrix<Element> {
        let y = Matrix<Element>(rows: rows.count, columns: weight.inputs)
        for (index, row) in rows.enumerated() {
            precondition(0..<weight.outputs ~= row && !weight.isInputMajor)
            functions.widen(
                weight.element, weight.start(ofOutput: row), weight.inputs, 1, weight.inputs,
                y.elements + index * y.columns)
        }
        return y
    }

    /// Returns the RMSNorm of x, weight * x / sqrt(mean(x^2) + epsilon).
    ///
    /// If the rows of x are wider than the weight, they are split into parts as wide as the weight, and each part is
    /// normalised separately.
    @specialized(where Element == Float)
    public func rmsNorm(_ x: Matrix<Element>, weight: [Element], epsilon: Double) -> Matrix<Element> {
        precondition(!weight.isEmpty && x.columns % weight.count == 0, "weight size does not match")
        let y = Matrix<Element>(rows: x.rows, columns: x.columns)
        overRows(of: x) { start, count in
            let offset = start * x.columns
            functions.rms_norm(
                x.elements + offset, count * x.columns / weight.count, weight.count, weight, epsilon,
                y.elements + offset)
        }
        return y
    }

    /// Returns the LayerNorm of each row of x, weight * (x - mean) / sqrt(variance + epsilon) + bias.
    @specialized(where Element == Float)
    public func layerNorm(
        _ x: Matrix<Element>, weight: [Element], bias: [Element], epsilon: Double
    ) -> Matrix<Element> {
        precondition(weight.count == x.columns && bias.count == x.columns, "weight size does not match")
        let y = Matrix<Element>(rows: x.rows, columns: x.columns)
        overRows(of: x) { start, count in
            let offset = start * x.columns
            functions.layer_norm(x.elements + offset, count, x.columns, weight, bias, epsilon, y.elements + offset)
        }
        return y
    }

    /// Replaces each element x with 1 / (1 + exp(-x)).
    @specialized(where Element == Float)
    public func sigmoid(inPlace x: Matrix<Element>) { inPlace(x) { functions.sigmoid($1, $0) } }

    /// Replaces each element x with tanh(x).
    @specialized(where Element == Float)
    public func tanh(inPlace x: Matrix<Element>) { inPlace(x) { functions.tanh($1, $0) } }

    /// Multiplies each element by `factor`, in place.
    @specialized(where Element == Float)
    public func scale(inPlace x: Matrix<Element>, by factor: Double) {
        inPlace(x) { functions.scale($1, factor, $0) }
    }

    /// Applies a softcap: replaces each element x with cap * tanh(x / cap), which is between -cap and cap.
    @specialized(where Element == Float)
    public func softcap(inPlace x: Matrix<Element>, cap: Double) {
        precondition(cap > 0, "cap must be above zero")
        inPlace(x) { functions.softcap($1, 1, cap, $0) }
    }

    /// Replaces each element x with max(x, 0)^2.
    @specialized(where Element == Float)
    public func reluSquared(inPlace x: Matrix<Element>) { inPlace(x) { functions.relu_squared($1, $0) } }

    private func inPlace(_ x: Matrix<Element>, _ kernel: (UnsafeMutablePointer<Element>, Int) -> Void) {
        overRows(of: x) { start, count in kernel(x.elements + start * x.columns, count * x.columns) }
    }

    /// Adds x to y, in place.
    @specialized(where Element == Float)
    public func add(_ x: Matrix<Element>, to y: Matrix<Element>) { onto(y, x) { functions.add($0, $2, $1) } }

    /// Applies SwiGLU: replaces `gate` with silu(gate) * up.
    @specialized(where Element == Float)
    public func swiGLU(up: Matrix<Element>, gate: Matrix<Element>) { onto(gate, up) { functions.swiglu($0, $2, $1) } }

    /// Applies GeGLU: replaces `gate` with gelu(gate) * up.
    ///
    /// GELU is computed with the tanh approximation, x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), which
    /// Transformers calls `gelu_pytorch_tanh`.
    @specialized(where Element == Float)
    public func geGLU(up: Matrix<Element>, gate: Matrix<Element>) { onto(gate, up) { functions.geglu($0, $2, $1) } }

    /// Multiplies y by sigmoid(gate), a matrix of the same size.
    @specialized(where Element == Float)
    public func multiply(_ y: Matrix<Element>, bySigmoidOf gate: Matrix<Element>) {
        onto(y, gate) { functions.sigmoid_gate($0, $2, $1) }
    }

    func onto(
        _ y: Matrix<Element>, _ x: Matrix<Element>,
        _ kernel: (UnsafePointer<Element>, UnsafeMutablePointer<Element>, Int) -> Void
    ) {
        precondition(x.count == y.count, "mismatched matrix sizes")
        overRows(of: y) { start, count in
            let offset = start * y.columns
            kernel(x.elements + offset, y.elements + offset, count * y.columns)
        }
    }

    /// Adds a bias to each row of y, in place.
    @specialized(where Element == Float)
    public func add(bias: [Element], to y: Matrix<Element>) {
        precondition(bias.count == y.columns, "bias size does not match")
        overRows(of: y) { start, count in
            functions.add_to_rows(bias, count, y.columns, y.elements + start * y.columns)
        }
    }

    /// Returns whether all elements of a matrix are finite.
    @specialized(where Element == Float)
    public func areFinite(_ x: Matrix<Element>) -> Bool { functions.all_finite(x.elements, x.count) != 0 }

    /// Applies RoPE in place: rotates the first R channels of each head by angles that depend on the token.
    ///
    /// Channels i and i + R/2 form a pair, or channels 2i and 2i + 1 if `isInterleaved`.
    ///
    /// - Parameters:
    ///   - x: the queries or keys, [tokens, heads * size].
    ///   - size: the number of channels per head.
    ///   - cosines: the cosines of the angles, [tokens, R/2].
    ///   - sines: the sines of the angles, [tokens, R/2].
    ///   - isInterleaved: whether channels 2i and 2i + 1 form a pair.
    @specialized(where Element == Float)
    public func rotate(
        _ x: Matrix<Element>, size: Int, cosines: Matrix<Element>, sines: Matrix<Element>, isInterleaved: Bool = false
    ) {
        let half = cosines.columns
        precondition(
            2 * half <= size && cosines.rows == x.rows && sines.count == cosines.count, "angles do not match x")
        overRows(of: x) { start, count in
            functions.rotate(
                cosines.elements + start * half, sines.elements + start * half, half, count, x.columns / size, size,
                isInterleaved ? 1 : 0, x.elements + start * x.columns)
        }
    }

    /// Returns a matrix in which each head of x is repeated `times` times; the copies of a head are adjacent.
    @specialized(where Element == Float)
    public func repeated(_ x: Matrix<Element>, size: Int, times: Int) -> Matrix<Element> {
        guard times > 1 else { return x }
        let y = Matrix<Element>(rows: x.rows, columns: x.columns * times)
        overRows(of: x) { start, count in
            functions.repeat_heads(
                x.elements + start * x.columns, count, x.columns / size, size, times, y.elements + start * y.columns)
        }
        return y
    }
}
