import CRWKVKernels

/// The parameters of softmax attention: heads, score scale, sliding window and score softcap.
public struct AttentionParameters: Sendable, Hashable {
    /// The number of query heads.
    public let heads: Int
    /// The number of key-value heads; each serves `heads / keyValueHeads` consecutive query heads.
    public let keyValueHeads: Int
    /// The factor for scores q k^T, which is 1 / sqrt(N) in most models, where N is the number of channels per head.
    public let scale: Double
    /// The size of the sliding window; nil for no window.
    ///
    /// This is the number of keys that a query attends to, including the key of its own token.
    public let window: Int?
    /// The score softcap, which replaces a scaled score s with softcap * tanh(s / softcap); nil for none.
    public let softcap: Double?

    /// Creates the attention parameters of a layer.
    ///
    /// - Parameters:
    ///   - heads: the number of query heads.
    ///   - keyValueHeads: the number of key-value heads.
    ///   - scale: the factor for scores.
    ///   - window: the size of the sliding window, at least 1; nil for no window. A query at position q attends to the
    ///     keys at positions k with q - window < k <= q.
    ///   - softcap: the score softcap, above zero; nil for no softcap.
    public init(heads: Int, keyValueHeads: Int, scale: Double, window: Int? = nil, softcap: Double? = nil) {
        precondition(window ?? 1 >= 1 && softcap ?? 1 > 0, "window and softcap must be above zero")
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.scale = scale
        self.window = window
        self.softcap = softcap
    }

    /// The factor that the softmax applies to scores: 1 if there is a softcap, which has already scaled them.
    fileprivate var softmaxScale: Double { softcap == nil ? scale : 1 }
}

// Causal softmax attention and its gradients.
extension Kernels {
    /// The number of query rows per tile.
    private static var queryTile: Int { 64 }
    /// The number of keys per tile, chosen so that the keys and scores of a tile fit into an L2 cache.
    private static var keyTile: Int { 512 }

    /// Computes causal softmax attention, softmax(scale q k^T) v, for each head.
    ///
    /// Scores are softcapped if `parameters` has a softcap, and queries attend only to keys in the window if it has
    /// one.
    ///
    /// - Parameters:
    ///   - queries: the queries, [tokens, heads * N]. Several sequences of equal length can be concatenated.
    ///   - keys: the keys, [past + tokens, key-value heads * N] for each sequence. The keys of the query tokens are
    ///     last, and the oldest keys can be omitted if no query attends to them.
    ///   - values: the values of the same tokens, in the shape of `keys`.
    ///   - parameters: the attention parameters.
    ///   - sequences: the number of sequences.
    /// - Returns: the output of attention, [tokens, heads * N].
    @specialized(where Element == Float)
    public func attention(
        _ queries: Matrix<Element>, keys: [Element], values: [Element], _ parameters: AttentionParameters,
        sequences: Int = 1
    ) -> Matrix<Element> {
        let y = Matrix<Element>(rows: queries.rows, columns: queries.columns)
        let (heads, keyValueHeads) = (parameters.heads, parameters.keyValueHeads)
        let size = queries.columns / heads
        let stride = keyValueHeads * size
        let (length, known) = (queries.rows / sequences, keys.count / stride / sequences)
        precondition(known >= length && values.count == keys.count, "mismatched matrix sizes")
        let (past, window) = (known - length, min(parameters.window ?? known, known))
        let blocks = (length + Self.queryTile - 1) / Self.queryTile
        keys.withUnsafeBufferPointer { keys in
            values.withUnsafeBufferPointer { values in
                guard let keys = keys.baseAddress, let values = values.baseAddress else { return }
                forEach(sequences * heads * blocks) { piece in
                    let (sequence, head, block) = (piece / blocks / heads, piece / blocks % heads, piece % blocks)
                    let start = block * Self.queryTile
                    let rows = min(Self.queryTile, length - start)
                    // The first key that a row of the tile attends to.
                    let first = max(0, past + start + 1 - window)
                    let before = past + start - first
                    let shared = (sequence * known + first) * stride + head / (heads / keyValueHeads) * size
                    let place = (sequence * length + start) * queries.columns + head * size
                    let (q, k, v, target) = (
                        queries.elements + place, keys + shared, values + shared, y.elements + place
                    )
                    if !multipliesInBlocks(rows: rows) {
                        let seen = min(window, before + rows)
                        withUnsafeTemporaryAllocation(of: Element.self, capacity: seen) { scores in
                            functions.attend(
                                q, queries.columns, rows, k, v, stride, before, window, size, parameters.scale,
                                parameters.softcap ?? 0, scores.baseAddress, target, y.columns)
                        }
                        return
                    }
                    attend(
                        (rows, before + rows, size), q, stride: queries.columns, keys: k, values: v, stride: stride,
                        past: before, window: window, parameters, into: target, stride: y.columns)
                }
            }
        }
        return y
    }

    /// Computes the attention of one head for a tile of queries, one block of keys at a time (online softmax).
    ///
    /// The scores of a long sequence are therefore never all in memory at once.
    private func attend(
        _ size: (rows: Int, seen: Int, channels: Int), _ queries: UnsafePointer<Element>, stride queryStride: Int,
        keys: UnsafePointer<Element>, values: UnsafePointer<Element>, stride: Int, past: Int, window: Int,
        _ parameters: AttentionParameters, into y: UnsafeMutablePointer<Element>, stride yStride: Int
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
                if let cap = parameters.softcap {
                    functions.softcap(rows * block.count, parameters.scale, cap, scores)
                }
                functions.softmax_block(
                    rows, block.count, past + 1 - block.lowerBound, window, parameters.softmaxScale, scores, largest,
                    sums, size.channels, y, yStride)
                multiply(
                    (rows, size.channels, block.count), Factor(scores, stride: block.count),
                    Factor(values + block.lowerBound * stride, stride: stride), into: y, stride: yStride, adds: true)
            }
            functions.divide_rows(sums, rows, size.channels, y, yStride)
        }
    }

    /// Computes the gradients of ``attention(_:keys:values:_:sequences:)`` for whole sequences.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, heads * N]. Several sequences of equal length can be concatenated.
    ///   - queries: the queries, [tokens, heads * N].
    ///   - keys: the keys, [tokens, key-value heads * N].
    ///   - values: the values, [tokens, key-value heads * N].
    ///   - parameters: the parameters of the forward pass.
    ///   - sequences: the number of sequences.
    /// - Returns: the gradients of the queries, keys and values.
    public func attentionBackward(
        _ dy: Matrix<Element>, queries: Matrix<Element>, keys: Matrix<Element>, values: Matrix<Element>,
        _ parameters: AttentionParameters, sequences: Int
    ) -> (queries: Matrix<Element>, keys: Matrix<Element>, values: Matrix<Element>) {
        let keyValueHeads = parameters.keyValueHeads
        let (length, size) = (dy.rows / sequences, dy.columns / parameters.heads)
        let group = parameters.heads / keyValueHeads
        let (wide, narrow) = (queries.columns, keys.columns)
        let window = min(parameters.window ?? length, length)
        let dq = Matrix<Element>(rows: queries.rows, columns: wide)
        let (dk, dv) = (
            Matrix<Element>(zeros: keys.rows, columns: narrow), Matrix<Element>(zeros: keys.rows, columns: narrow)
        )
        // Query heads that share a key-value head add to the same gradients, so one thread processes all of them.
        forEach(sequences * keyValueHeads) { piece in
            let (sequence, shared) = (piece / keyValueHeads, piece % keyValueHeads)
            let tileRows = min(Self.queryTile, length)
            let tileElements = tileRows * min(length, window + tileRows - 1)
            let capacity = (parameters.softcap == nil ? 2 : 3) * tileElements
            withUnsafeTemporaryAllocation(of: Element.self, capacity: capacity) { room in
                guard let weights = room.baseAddress else { return }
                let (changes, capped) = (weights + tileElements, weights + 2 * tileElements)
                for head in shared * group..<(shared + 1) * group {
                    for rows in length.parts(of: tileRows) {
                        let place = (sequence * length + rows.lowerBound) * wide + head * size
                        // The first key that a row of the tile attends to.
                        let first = max(0, rows.lowerBound + 1 - window)
                        let own = (sequence * length + first) * narrow + shared * size
                        let seen = rows.upperBound - first
                        let square = (rows.count, seen, size)
                        multiply(
                            square, Factor(queries.elements + place, stride: wide),
                            Factor(keys.elements + own, stride: narrow, isTransposed: true), into: weights, stride: seen
                        )
                        if let cap = parameters.softcap {
                            functions.softcap(rows.count * seen, parameters.scale, cap, weights)
                            capped.update(from: weights, count: rows.count * seen)
                        }
                        functions.causal_softmax(
                            rows.count, seen, rows.lowerBound - first, window, parameters.softmaxScale, weights)
                        multiply(
                            (seen, size, rows.count), Factor(weights, stride: seen, isTransposed: true),
                            Factor(dy.elements + place, stride: wide), into: dv.elements + own, stride: narrow,
                            adds: true)
                        multiply(
                            square, Factor(dy.elements + place, stride: wide),
                            Factor(values.elements + own, stride: narrow, isTransposed: true), into: changes,
                            stride: seen)
                        functions.softmax_backward(weights, rows.count, seen, parameters.softmaxScale, changes)
                        if let cap = parameters.softcap {
                            functions.softcap_backward(capped, rows.count * seen, parameters.scale, cap, changes)
                        }
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
