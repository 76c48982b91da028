import CRWKVKernels

extension Kernels {
    /// Outputs that are computed together; widened, their weights fit into a second-level cache or two.
    private static var outputTile: Int { 256 }
    /// Rows that are computed together: several threads have work where a weight has few outputs.
    private static var rowTile: Int { 512 }
    /// Rows of queries that are computed together.
    private static var queryTile: Int { 64 }
    /// Keys that they are scored with at once: with their scores they fit into a second-level cache.
    private static var keyTile: Int { 512 }
    /// Up to so many rows, products row by row are faster than those in blocks.
    private static var fewRows: Int { 8 }

    private func multipliesInBlocks(rows: Int) -> Bool { table == .fast && rows > Self.fewRows }

    /// x W: [rows, inputs] to [rows, outputs].
    @specialized(where Element == Float)
    public func product(_ x: Matrix<Element>, _ weight: StoredMatrix) -> Matrix<Element> {
        precondition(x.columns == weight.inputs, "a matrix of other sizes")
        let y = Matrix<Element>(rows: x.rows, columns: weight.outputs)
        guard x.rows > 0 else { return y }
        multiply(x, weight, into: y)
        return y
    }

    /// Adds x W to y, [rows, outputs].
    public func addProduct(_ x: Matrix<Element>, _ weight: StoredMatrix, to y: Matrix<Element>) {
        guard multipliesInBlocks(rows: x.rows) else { return add(product(x, weight), to: y) }
        precondition(
            x.columns == weight.inputs && y.rows == x.rows && y.columns == weight.outputs, "matrices of other sizes")
        multiply(x, weight, into: y, adds: true)
    }

    /// y = x W, tile by tile; the blocked product can also add it to y.
    @specialized(where Element == Float)
    private func multiply(_ x: Matrix<Element>, _ weight: StoredMatrix, into y: Matrix<Element>, adds: Bool = false) {
        // Each piece of a matrix that comes from memory begins with waiting; sums do not show how many there are.
        let tile = threads == 1 && x.rows == 1 ? max(1, weight.outputs) : Self.outputTile
        let (outputs, rows) = (weight.outputs.parts(of: tile), x.rows.parts(of: Self.rowTile))
        forEach(outputs.count * rows.count) { piece in
            multiply(x, rows[piece % rows.count], weight, outputs[piece / rows.count], into: y, adds: adds)
        }
    }

    private func multiply(
        _ x: Matrix<Element>, _ rows: Range<Int>, _ weight: StoredMatrix, _ outputs: Range<Int>,
        into y: Matrix<Element>, adds: Bool
    ) {
        let (inputs, element) = (weight.inputs, weight.element)
        let (source, target) = (
            x.elements + rows.lowerBound * inputs, y.elements + rows.lowerBound * y.columns + outputs.lowerBound
        )
        let elements = weight.start(ofOutput: outputs.lowerBound)
        let stride = weight.isByInput ? weight.outputs : inputs
        guard multipliesInBlocks(rows: x.rows) else {
            if weight.isByInput {
                functions.product_of_columns(
                    element, elements, stride, inputs, outputs.count, source, rows.count, target, y.columns)
            } else {
                functions.product(
                    element, elements, inputs, outputs.count, source, rows.count, target, y.columns)
            }
            return
        }
        func multiply(_ weights: UnsafePointer<Element>, stride: Int) {
            self.multiply(
                (rows.count, outputs.count, inputs), Factor(source, stride: inputs),
                Factor(weights, stride: stride, isTransposed: !weight.isByInput), into: target, stride: y.columns,
                adds: adds)
        }
        if element == Element.stored {
            return multiply(elements.assumingMemoryBound(to: Element.self), stride: stride)
        }
        let (height, width) = weight.isByInput ? (inputs, outputs.count) : (outputs.count, inputs)
        withUnsafeTemporaryAllocation(of: Element.self, capacity: height * width) { widened in
            guard let widened = widened.baseAddress else { return }
            functions.widen(element, elements, stride, height, width, widened)
            multiply(widened, stride: width)
        }
    }

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
}
