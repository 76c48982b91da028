import CRWKVKernels

extension Kernels {
    /// Outputs that are computed together; widened, their weights fit into a second-level cache or two.
    private static var outputTile: Int { 256 }
    /// Rows of queries that are computed together.
    private static var queryTile: Int { 64 }
    /// From so many rows on OpenBLAS is faster than products row by row.
    private static var fewRows: Int { 8 }

    private func usesOpenBLAS(rows: Int) -> Bool { table == .fast && rows > Self.fewRows && OpenBLAS.isAvailable }

    /// x W: [rows, inputs] to [rows, outputs].
    public func product(_ x: Matrix<Element>, _ weight: StoredMatrix) -> Matrix<Element> {
        precondition(x.columns == weight.inputs, "a matrix of other sizes")
        let y = Matrix<Element>(rows: x.rows, columns: weight.outputs)
        guard x.rows > 0 else { return y }
        let tile = Self.outputTile
        forEach((weight.outputs + tile - 1) / tile) { piece in
            let start = piece * tile
            multiply(x, weight, start, min(tile, weight.outputs - start), y)
        }
        return y
    }

    private func multiply(
        _ x: Matrix<Element>, _ weight: StoredMatrix, _ start: Int, _ outputs: Int, _ y: Matrix<Element>
    ) {
        let (inputs, element, target) = (weight.inputs, weight.element, y.elements + start)
        let elements = weight.start(ofOutput: start)
        let stride = weight.isByInput ? weight.outputs : inputs
        guard usesOpenBLAS(rows: x.rows) else {
            if weight.isByInput {
                functions.product_of_columns(
                    element, elements, stride, inputs, outputs, x.elements, x.rows, target, y.columns)
            } else {
                functions.product(element, elements, inputs, outputs, x.elements, x.rows, target, y.columns)
            }
            return
        }
        let own = MemoryLayout<Element>.size == 8 ? RWKV_ELEMENT_F64 : RWKV_ELEMENT_F32
        func multiply(_ weights: UnsafePointer<Element>, stride: Int) {
            OpenBLAS.multiply(
                (x.rows, outputs, inputs), x.elements, stride: inputs, weights, stride: stride,
                isTransposed: !weight.isByInput, into: target, stride: y.columns)
        }
        if element == own {
            return multiply(elements.assumingMemoryBound(to: Element.self), stride: stride)
        }
        let (rows, columns) = weight.isByInput ? (inputs, outputs) : (outputs, inputs)
        withUnsafeTemporaryAllocation(of: Element.self, capacity: rows * columns) { widened in
            guard let widened = widened.baseAddress else { return }
            functions.widen(element, elements, stride, rows, columns, widened)
            multiply(widened, stride: columns)
        }
    }

    /// Causal softmax attention: softmax(q k^T / sqrt(N)) v, for each head, where several heads of queries share one of keys and
    /// values, neighbours the same.
    ///
    /// - Parameters:
    ///   - queries: [tokens, heads N].
    ///   - keys: of all tokens so far, those of the queries last: [past + tokens, key-value heads N].
    ///   - values: the same of values.
    ///   - heads: how many heads of queries there are.
    ///   - keyValueHeads: how many of keys and values.
    /// - Returns: [tokens, heads N].
    public func attention(
        _ queries: Matrix<Element>, keys: [Element], values: [Element], heads: Int, keyValueHeads: Int
    ) -> Matrix<Element> {
        let y = Matrix<Element>(rows: queries.rows, columns: queries.columns)
        let size = queries.columns / heads
        let stride = keyValueHeads * size
        let past = keys.count / stride - queries.rows
        let blocks = (queries.rows + Self.queryTile - 1) / Self.queryTile
        let scale = 1 / Double(size).squareRoot()
        keys.withUnsafeBufferPointer { keys in
            values.withUnsafeBufferPointer { values in
                guard let keys = keys.baseAddress, let values = values.baseAddress else { return }
                forEach(heads * blocks) { piece in
                    let (head, block) = (piece / blocks, piece % blocks)
                    let start = block * Self.queryTile
                    let rows = min(Self.queryTile, queries.rows - start)
                    let shared = head / (heads / keyValueHeads) * size
                    let (q, k, v) = (
                        queries.elements + start * queries.columns + head * size, keys + shared, values + shared
                    )
                    let target = y.elements + start * y.columns + head * size
                    let seen = past + start + rows
                    if !usesOpenBLAS(rows: rows) {
                        withUnsafeTemporaryAllocation(of: Element.self, capacity: seen) { scores in
                            functions.attend(
                                q, queries.columns, rows, k, v, stride, past + start, size, scale, scores.baseAddress,
                                target, y.columns)
                        }
                        return
                    }
                    withUnsafeTemporaryAllocation(of: Element.self, capacity: rows * seen) { scores in
                        guard let scores = scores.baseAddress else { return }
                        OpenBLAS.multiply(
                            (rows, seen, size), q, stride: queries.columns, k, stride: stride, isTransposed: true,
                            into: scores, stride: seen)
                        functions.causal_softmax(rows, seen, past + start, scale, scores)
                        OpenBLAS.multiply(
                            (rows, size, seen), scores, stride: seen, v, stride: stride, isTransposed: false,
                            into: target, stride: y.columns)
                    }
                }
            }
        }
        return y
    }
}
