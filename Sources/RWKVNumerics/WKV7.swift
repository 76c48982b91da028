import CRWKVKernels

/// The inputs of the RWKV-7 recurrence for one or more tokens, each [tokens, heads * N].
public struct WKV7Inputs<Numbers> {
    /// The receptance r.
    public let r: Numbers
    /// The decay w, between 0 and 1.
    public let w: Numbers
    /// The scaled key k.
    public let k: Numbers
    /// The value v.
    public let v: Numbers
    /// The normalised removal key kk.
    public let removal: Numbers
    /// The in-context learning rate a.
    public let iclr: Numbers

    /// Creates the inputs of the recurrence, which must all be for the same tokens.
    public init(r: Numbers, w: Numbers, k: Numbers, v: Numbers, removal: Numbers, iclr: Numbers) {
        (self.r, self.w, self.k, self.v, self.removal, self.iclr) = (r, w, k, v, removal, iclr)
    }

    /// Returns the results of applying a function to each input.
    package func map<Others>(_ other: (Numbers) -> Others) -> WKV7Inputs<Others> {
        .init(r: other(r), w: other(w), k: other(k), v: other(v), removal: other(removal), iclr: other(iclr))
    }

    fileprivate var all: [Numbers] { [r, w, k, v, removal, iclr] }
}

extension Kernels {
    /// Runs the RWKV-7 recurrence for each head: S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r (RWKV-LM, RWKV-v7).
    ///
    /// On x86-64, denormals count as zero.
    ///
    /// - Parameters:
    ///   - inputs: the inputs, each [tokens, heads * N]. Several sequences of equal length can be concatenated.
    ///   - size: the number of channels per head (N).
    ///   - state: the transposed state S^T of each head, [sequences, heads, key, value]; updated.
    /// - Returns: the output y, [tokens, heads * N].
    @specialized(where Element == Float)
    public func wkv7(_ inputs: WKV7Inputs<Matrix<Element>>, size: Int, state: inout [Element]) -> Matrix<Element> {
        let (rows, columns) = (inputs.r.rows, inputs.r.columns)
        precondition(inputs.all.allSatisfy { $0.rows == rows && $0.columns == columns }, "mismatched matrix sizes")
        return withExtendedLifetime(inputs) {
            wkv7(
                inputs.all.map { UnsafeRawPointer($0.elements) }, Element.stored, rows, columns, size: size,
                state: &state)
        }
    }

    /// Runs the RWKV-7 recurrence on stored inputs (F64, F32, F16 or BF16), which are widened as they are read.
    ///
    /// - Parameters:
    ///   - inputs: the inputs, each stored as [tokens, heads * N].
    ///   - size: the number of channels per head (N).
    ///   - state: the transposed state S^T of each head, [sequences, heads, key, value]; updated.
    /// - Returns: the output y, [tokens, heads * N].
    public func wkv7(_ inputs: WKV7Inputs<StoredMatrix>, size: Int, state: inout [Element]) -> Matrix<Element> {
        let (rows, columns, element) = (inputs.r.outputs, inputs.r.inputs, inputs.r.element)
        precondition(
            inputs.all.allSatisfy {
                $0.outputs == rows && $0.inputs == columns && $0.element == element && !$0.isInputMajor
            }, "mismatched matrix sizes or types")
        return withExtendedLifetime(inputs) {
            wkv7(inputs.all.map(\.elements), element, rows, columns, size: size, state: &state)
        }
    }

    private func wkv7(
        _ inputs: [UnsafeRawPointer], _ element: rwkv_element, _ rows: Int, _ columns: Int, size: Int,
        state: inout [Element]
    ) -> Matrix<Element> {
        precondition(columns > 0 && columns % size == 0, "head size does not divide the columns")
        let heads = columns / size
        let sequences = state.count / (columns * size)
        precondition(
            sequences > 0 && state.count == sequences * columns * size && rows % sequences == 0,
            "state size does not match")
        let length = rows / sequences
        let widened = element == Element.stored ? 0 : min(length, Int(RWKV_WKV7_ROWS))
        let room = (65 + 6 * widened) * size
        let y = Matrix<Element>(rows: rows, columns: columns)
        state.withUnsafeMutableBufferPointer { state in
            guard let state = state.baseAddress else { return }
            // Only one thread accesses the state of each head.
            nonisolated(unsafe) let states = state
            overHeads(heads, sequences: sequences, length: length) { sequence, head, rows in
                let start = (sequence * length + rows.lowerBound) * columns + head * size
                let part = inputs.map { $0 + start * element.size }
                withUnsafeTemporaryAllocation(byteCount: room * MemoryLayout<Element>.stride, alignment: cacheLine) {
                    scratch in
                    functions.wkv7(
                        element, part[0], part[1], part[2], part[3], part[4], part[5], rows.count, columns,
                        size, states + (sequence * heads + head) * size * size, scratch.baseAddress, y.elements + start)
                }
            }
        }
        return y
    }
}

/// The states of the recurrence at regular intervals, from which the backward pass recomputes all other states.
public struct WKV7Checkpoints<Element: Real> {
    /// The transposed states S^T, [key, value], at the start of each interval, for each sequence and head.
    fileprivate let states: Matrix<Element>
    fileprivate let sequences: Int
    fileprivate let size: Int

    fileprivate static var rows: Int { Int(RWKV_WKV7_CHECKPOINT_ROWS) }
}

extension Kernels {
    /// Runs `wkv7(_:size:state:)` over whole sequences from a zero state; records checkpoints for the backward pass.
    ///
    /// - Parameters:
    ///   - inputs: the inputs, each [tokens, heads * N]. Several sequences of equal length can be concatenated.
    ///   - size: the number of channels per head (N).
    ///   - sequences: the number of sequences.
    /// - Returns: the output y, [tokens, heads * N], and the checkpoints.
    public func wkv7(
        _ inputs: WKV7Inputs<Matrix<Element>>, size: Int, sequences: Int
    ) -> (Matrix<Element>, WKV7Checkpoints<Element>) {
        let (columns, length) = (inputs.r.columns, inputs.r.rows / sequences)
        precondition(
            inputs.all.allSatisfy { $0.rows == length * sequences && $0.columns == columns } && columns % size == 0,
            "mismatched matrix sizes")
        let y = Matrix<Element>(rows: inputs.r.rows, columns: columns)
        let (heads, parts) = (columns / size, length.parts(of: WKV7Checkpoints<Element>.rows))
        let states = Matrix<Element>(rows: sequences * heads * parts.count, columns: size * size)
        forEach(sequences * heads) { piece in
            let start = piece / heads * length * columns + piece % heads * size
            withUnsafeTemporaryAllocation(of: Element.self, capacity: (size + 65) * size) { room in
                guard let state = room.baseAddress else { return }
                state.update(repeating: 0, count: size * size)
                for (number, part) in parts.enumerated() {
                    (states.elements + (piece * parts.count + number) * size * size)
                        .update(from: state, count: size * size)
                    let at = start + part.lowerBound * columns
                    let rows = inputs.map { $0.elements + at }
                    functions.wkv7(
                        Element.stored, rows.r, rows.w, rows.k, rows.v, rows.removal, rows.iclr, part.count, columns,
                        size, state, state + size * size, y.elements + at)
                }
            }
        }
        return (y, WKV7Checkpoints(states: states, sequences: sequences, size: size))
    }

    /// Computes the gradients of ``wkv7(_:size:sequences:)``.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, heads * N].
    ///   - inputs: the inputs of the forward pass.
    ///   - checkpoints: the checkpoints from the forward pass.
    ///   - added: the accumulators for the gradients of r, k and v.
    /// - Returns: the gradients of all inputs. The gradients of r, k and v are the matrices in `added`.
    public func wkv7Backward(
        _ dy: Matrix<Element>, _ inputs: WKV7Inputs<Matrix<Element>>, _ checkpoints: WKV7Checkpoints<Element>,
        added: (r: Matrix<Element>, k: Matrix<Element>, v: Matrix<Element>)
    ) -> WKV7Inputs<Matrix<Element>> {
        let (columns, size, sequences) = (dy.columns, checkpoints.size, checkpoints.sequences)
        let (heads, length) = (columns / size, dy.rows / sequences)
        let parts = length.parts(of: WKV7Checkpoints<Element>.rows).count
        func matrix() -> Matrix<Element> { Matrix(rows: dy.rows, columns: columns) }
        let gradients = WKV7Inputs(
            r: added.r, w: matrix(), k: added.k, v: added.v, removal: matrix(), iclr: matrix())
        precondition((inputs.all + gradients.all).allSatisfy { $0.count == dy.count }, "mismatched matrix sizes")
        let pitch = (size + 15) / 16 * 16
        let room = (31 * WKV7Checkpoints<Element>.rows + 21 + pitch) * pitch
        forEach(sequences * heads) { piece in
            let start = piece / heads * length * columns + piece % heads * size
            let (rows, targets) = (inputs.map { $0.elements + start }, gradients.map { $0.elements + start })
            withUnsafeTemporaryAllocation(byteCount: room * MemoryLayout<Element>.stride, alignment: cacheLine) {
                scratch in
                functions.wkv7_backward(
                    rows.r, rows.w, rows.k, rows.v, rows.removal, rows.iclr, dy.elements + start, length, columns, size,
                    checkpoints.states.elements + piece * parts * size * size, scratch.baseAddress, targets.r,
                    targets.w, targets.k, targets.v, targets.removal, targets.iclr)
            }
        }
        return gradients
    }
}
