import CRWKVKernels

/// What the recurrence of RWKV-7 takes in: [tokens, heads N] each, all of them with the same rows.
public struct WKV7Inputs<Numbers> {
    /// Receptance.
    public let r: Numbers
    /// Decay, between 0 and 1.
    public let w: Numbers
    /// Key.
    public let k: Numbers
    /// Value.
    public let v: Numbers
    /// The normed removal key kk.
    public let removal: Numbers
    /// In-context learning rate a.
    public let iclr: Numbers

    /// Inputs of the same tokens.
    public init(r: Numbers, w: Numbers, k: Numbers, v: Numbers, removal: Numbers, iclr: Numbers) {
        (self.r, self.w, self.k, self.v, self.removal, self.iclr) = (r, w, k, v, removal, iclr)
    }

    /// What becomes of each.
    package func map<Others>(_ other: (Numbers) -> Others) -> WKV7Inputs<Others> {
        .init(r: other(r), w: other(w), k: other(k), v: other(v), removal: other(removal), iclr: other(iclr))
    }

    fileprivate var all: [Numbers] { [r, w, k, v, removal, iclr] }
}

extension Kernels {
    /// The recurrence of RWKV-7, head by head: S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r (RWKV-LM, RWKV-v7).
    ///
    /// Numbers so small that they are denormal count as zero.
    ///
    /// - Parameters:
    ///   - inputs: [tokens, heads N] each; of several sequences, one behind the other, of the same length.
    ///   - size: channels of a head (N).
    ///   - state: [sequences, heads, key, value], the transposes of S; carried on.
    /// - Returns: [tokens, heads N].
    @specialized(where Element == Float)
    public func wkv7(_ inputs: WKV7Inputs<Matrix<Element>>, size: Int, state: inout [Element]) -> Matrix<Element> {
        let (rows, columns) = (inputs.r.rows, inputs.r.columns)
        precondition(inputs.all.allSatisfy { $0.rows == rows && $0.columns == columns }, "matrices of other sizes")
        return withExtendedLifetime(inputs) {
            wkv7(
                inputs.all.map { UnsafeRawPointer($0.elements) }, Element.stored, rows, columns, size: size,
                state: &state)
        }
    }

    /// The same of inputs that are F64, F32, F16 or BF16, all of one type, and widened as they are read.
    ///
    /// - Parameters:
    ///   - inputs: as matrices with an output for each token.
    ///   - size: channels of a head (N).
    ///   - state: [sequences, heads, key, value], the transposes of S; carried on.
    /// - Returns: [tokens, heads N].
    public func wkv7(_ inputs: WKV7Inputs<StoredMatrix>, size: Int, state: inout [Element]) -> Matrix<Element> {
        let (rows, columns, element) = (inputs.r.outputs, inputs.r.inputs, inputs.r.element)
        precondition(
            inputs.all.allSatisfy {
                $0.outputs == rows && $0.inputs == columns && $0.element == element && !$0.isByInput
            }, "matrices of other sizes or types")
        return withExtendedLifetime(inputs) {
            wkv7(inputs.all.map(\.elements), element, rows, columns, size: size, state: &state)
        }
    }

    private func wkv7(
        _ inputs: [UnsafeRawPointer], _ element: rwkv_element, _ rows: Int, _ columns: Int, size: Int,
        state: inout [Element]
    ) -> Matrix<Element> {
        precondition(columns > 0 && columns % size == 0, "heads of another size")
        let heads = columns / size
        let sequences = state.count / (columns * size)
        precondition(
            sequences > 0 && state.count == sequences * columns * size && rows % sequences == 0,
            "a state of another size")
        let length = rows / sequences
        let widened = element == Element.stored ? 0 : min(length, Int(RWKV_WKV7_ROWS))
        let room = (65 + 6 * widened) * size
        let y = Matrix<Element>(rows: rows, columns: columns)
        state.withUnsafeMutableBufferPointer { state in
            guard let state = state.baseAddress else { return }
            // Each head's part of it is one thread's.
            nonisolated(unsafe) let states = state
            forEach(sequences * heads) { piece in
                let start = piece / heads * length * columns + piece % heads * size
                let part = inputs.map { $0 + start * element.size }
                withUnsafeTemporaryAllocation(byteCount: room * MemoryLayout<Element>.stride, alignment: cacheLine) {
                    scratch in
                    functions.wkv7(
                        element, part[0], part[1], part[2], part[3], part[4], part[5], length, columns, size,
                        states + piece * size * size, scratch.baseAddress, y.elements + start)
                }
            }
        }
        return y
    }
}
