import CRWKVKernels

// Causal softmax attention, and its gradients.
extension Kernels {
    /// Rows of queries that are computed together.
    private static var queryTile: Int { 64 }
    /// Keys that they are scored with at once: with their scores they fit into a second-level cache.
    private static var keyTile: Int { 512 }

    /// Causal softmax attention: softmax(q k^T / sqrt(N)) v, for each head, where several heads of queries share one of keys and
    /// values, neighbours the same.
    ///
    /// - Parameters:
    ///   - queries: [tokens, heads N]; of several sequences, one behind the other, of the same length.
    ///   - keys: of all tokens so far of a sequence, those of its queries last: [past + tokens, key-value heads N].
    ///   - values: the same of values.
    ///   - heads: how many heads of queries there are.
    ///   - keyValueHeads: how many of keys and values.
    ///   - sequences: how many there are.
    /// - Returns: [tokens, heads N].
    @specialized(where Element == Float)
    public func attention(
        _ queries: Matrix<Element>, keys: [Element], values: [Element], heads: Int, keyValueHeads: Int,
        sequences: Int = 1
    ) -> Matrix<Element> {
        let y = Matrix<Element>(rows: queries.rows, columns: queries.columns)
        let size = queries.columns / heads
        let stride = keyValueHeads * size
        let (length, known) = (queries.rows / sequences, keys.count / stride / sequences)
        let past = known - length
        let blocks = (length + Self.queryTile - 1) / Self.queryTile
        let scale = 1 / Double(size).squareRoot()
        keys.withUnsafeBufferPointer { keys in
            values.withUnsafeBufferPointer { values in
                guard let keys = keys.baseAddress, let values = values.baseAddress else { return }
                forEach(sequences * heads * blocks) { piece in
                    let (sequence, head, block) = (piece / blocks / heads, piece / blocks % heads, piece % blocks)
                    let start = block * Self.queryTile
                    let rows = min(Self.queryTile, length - start)
                    let shared = sequence * known * stride + head / (heads / keyValueHeads) * size
                    let place = (sequence * length + start) * queries.columns + head * size
                    let (q, k, v, target) = (
                        queries.elements + place, keys + shared, values + shared, y.elements + place
                    )
                    let seen = past + start + rows
                    if !multipliesInBlocks(rows: rows) {
                        withUnsafeTemporaryAllocation(of: Element.self, capacity: seen) { scores in
                            functions.attend(
                                q, queries.columns, rows, k, v, stride, past + start, size, scale, scores.baseAddress,
                                target, y.columns)
                        }
                        return
                    }
                    attend(
                        (rows, seen, size), q, stride: queries.columns, keys: k, values: v, stride: stride,
                        past: past + start, scale, into: target, stride: y.columns)
                }
            }
        }
        return y
    }

    /// Attention of one head for some queries, a block of keys after the other: all scores of a long sequence are never there at once.
    private func attend(
        _ size: (rows: Int, seen: Int, channels: Int), _ queries: UnsafePointer<Element>, stride queryStride: Int,
        keys: UnsafePointer<Element>, values: UnsafePointer<Element>, stride: Int, past: Int, _ scale: Double,
        into y: UnsafeMutablePointer<Element>, stride yStride: Int
    ) {
        let (rows, tile) = (size.rows, min(Self.keyTile, size.seen))
        withUnsafeTemporaryAllocation(of: Element.self, capacity: rows * (tile + 2)) { room in
            guard let scores = room.baseAddress else { return }
            let (largest, sums) = (scores + rows * tile, scores + rows * (tile + 1))
            largest.update(repeating: -.infinity, count: rows)
            sums.update(repeating: 0, count: rows)
            for row in 0..<rows { (y + row * yStride).update(repeating: 0, count: size.channels) }
            for block in size.seen.parts(of: tile) {
                multiply(
                    (rows, block.count, size.channels), Factor(queries, stride: queryStride),
                    Factor(keys + block.lowerBound * stride, stride: stride, isTransposed: true), into: scores,
                    stride: block.count)
                functions.softmax_block(
                    rows, block.count, past + 1 - block.lowerBound, scale, scores, largest, sums, size.channels, y,
                    yStride)
                multiply(
                    (rows, size.channels, block.count), Factor(scores, stride: block.count),
                    Factor(values + block.lowerBound * stride, stride: stride), into: y, stride: yStride, adds: true)
            }
            functions.divide_rows(sums, rows, size.channels, y, yStride)
        }
    }

    /// Of ``attention(_:keys:values:heads:keyValueHeads:sequences:)`` over whole sequences.
    ///
    /// - Parameters:
    ///   - dy: [tokens, heads N], of sequences one behind the other.
    ///   - queries: [tokens, heads N].
    ///   - keys: [tokens, key-value heads N].
    ///   - values: the same of values.
    ///   - heads: how many heads of queries there are.
    ///   - keyValueHeads: how many of keys and values.
    ///   - sequences: how many there are.
    /// - Returns: the gradients of queries, keys and values.
    public func attentionBackward(
        _ dy: Matrix<Element>, queries: Matrix<Element>, keys: Matrix<Element>, values: Matrix<Element>, heads: Int,
        keyValueHeads: Int, sequences: Int
    ) -> (queries: Matrix<Element>, keys: Matrix<Element>, values: Matrix<Element>) {
        let (length, size, group) = (dy.rows / sequences, dy.columns / heads, heads / keyValueHeads)
        let (wide, narrow) = (queries.columns, keys.columns)
        let scale = 1 / Double(size).squareRoot()
        let dq = Matrix<Element>(rows: queries.rows, columns: wide)
        let (dk, dv) = (
            Matrix<Element>(zeros: keys.rows, columns: narrow), Matrix<Element>(zeros: keys.rows, columns: narrow)
        )
        // Heads of queries add to those that they share: one thread's work.
        forEach(sequences * keyValueHeads) { piece in
            let (sequence, shared) = (piece / keyValueHeads, piece % keyValueHeads)
            let own = sequence * length * narrow + shared * size
            let together = min(Self.queryTile, length)
            withUnsafeTemporaryAllocation(of: Element.self, capacity: 2 * together * length) { room in
                guard let weights = room.baseAddress else { return }
                let changes = weights + together * length
                for head in shared * group..<(shared + 1) * group {
                    for rows in length.parts(of: together) {
                        let place = (sequence * length + rows.lowerBound) * wide + head * size
                        let seen = rows.upperBound
                        let square = (rows.count, seen, size)
                        multiply(
                            square, Factor(queries.elements + place, stride: wide),
                            Factor(keys.elements + own, stride: narrow, isTransposed: true), into: weights, stride: seen
                        )
                        functions.causal_softmax(rows.count, seen, rows.lowerBound, scale, weights)
                        multiply(
                            (seen, size, rows.count), Factor(weights, stride: seen, isTransposed: true),
                            Factor(dy.elements + place, stride: wide), into: dv.elements + own, stride: narrow,
                            adds: true)
                        multiply(
                            square, Factor(dy.elements + place, stride: wide),
                            Factor(values.elements + own, stride: narrow, isTransposed: true), into: changes,
                            stride: seen)
                        functions.softmax_backward(weights, rows.count, seen, scale, changes)
                        multiply(
                            (rows.count, size, seen), Factor(changes, stride: seen),
                            Factor(keys.elements + own, stride: narrow), into: dq.elements + place, stride: wide)
                        multiply(
                            (seen, size, rows.count), Factor(changes, stride: seen, isTransposed: true),
                            Factor(queries.elements + place, stride: wide), into: dk.elements + own, stride: narrow,
                            adds: true)
                    }
                }
            }
        }
        return (dq, dk, dv)
    }
}
