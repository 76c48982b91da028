import CRWKVKernels

/// The inputs of the recurrence of RWKV-5 and RWKV-6 for one or more tokens.
public struct WKV6Inputs<Element: Real> {
    /// The receptance r, [tokens, heads * N].
    public let r: Matrix<Element>
    /// The decay w, between 0 and 1: [tokens, heads * N], or [1, heads * N] if it is the same for all tokens.
    public let w: Matrix<Element>
    /// The key k, [tokens, heads * N].
    public let k: Matrix<Element>
    /// The value v, [tokens, heads * N].
    public let v: Matrix<Element>
    /// The bonus u, [heads * N]; nil if the output is computed from the updated state.
    public let bonus: [Element]?

    /// Creates the inputs of the recurrence, which must all be for the same tokens.
    public init(r: Matrix<Element>, w: Matrix<Element>, k: Matrix<Element>, v: Matrix<Element>, bonus: [Element]?) {
        (self.r, self.w, self.k, self.v, self.bonus) = (r, w, k, v, bonus)
    }
}

extension Kernels {
    /// Runs the recurrence of RWKV-5 and RWKV-6 for each head (RWKV-LM, RWKV-v5).
    ///
    /// With a bonus u, the output reads the state before the update: y = S^T r + (r . u k) v, S = diag(w) S + k v^T.
    /// Without a bonus, it reads the updated state: S = diag(w) S + k v^T, y = S^T r. On x86-64, denormals count as
    /// zero.
    ///
    /// - Parameters:
    ///   - inputs: the inputs. Several sequences of equal length can be concatenated.
    ///   - size: the number of channels per head (N).
    ///   - state: the state S of each head, [sequences, heads, key, value]; updated.
    /// - Returns: the output y, [tokens, heads * N].
    @specialized(where Element == Float)
    public func wkv6(_ inputs: WKV6Inputs<Element>, size: Int, state: inout [Element]) -> Matrix<Element> {
        let (rows, columns) = (inputs.r.rows, inputs.r.columns)
        precondition(
            [inputs.k, inputs.v].allSatisfy { $0.rows == rows && $0.columns == columns }
                && inputs.w.columns == columns && (inputs.w.rows == rows || inputs.w.rows == 1)
                && inputs.bonus?.count ?? columns == columns && columns % size == 0, "mismatched matrix sizes")
        let (heads, sequences) = (columns / size, state.count / (columns * size))
        precondition(
            sequences > 0 && state.count == sequences * columns * size && rows % sequences == 0,
            "state size does not match")
        let length = rows / sequences
        let decayStride = inputs.w.rows == 1 ? 0 : columns
        let room = Int(RWKV_WKV6_ROWS) + 64 * size
        let y = Matrix<Element>(rows: rows, columns: columns)
        let bonus = inputs.bonus ?? []
        state.withUnsafeMutableBufferPointer { state in
            bonus.withUnsafeBufferPointer { bonus in
                guard let state = state.baseAddress else { return }
                // Only one thread accesses the state of each head.
                nonisolated(unsafe) let states = state
                let bonuses = inputs.bonus == nil ? nil : bonus.baseAddress
                overHeads(heads, sequences: sequences, length: length) { sequence, head, rows in
                    let channel = head * size
                    let start = (sequence * length + rows.lowerBound) * columns + channel
                    let decays = inputs.w.elements + (decayStride == 0 ? channel : start)
                    withUnsafeTemporaryAllocation(
                        byteCount: room * MemoryLayout<Element>.stride, alignment: cacheLine
                    ) { scratch in
                        functions.wkv6(
                            inputs.r.elements + start, decays, inputs.k.elements + start, inputs.v.elements + start,
                            bonuses.map { $0 + channel }, rows.count, columns, decayStride, size,
                            states + (sequence * heads + head) * size * size, scratch.baseAddress, y.elements + start)
                    }
                }
            }
        }
        return y
    }
}
