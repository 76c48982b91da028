import CRWKVKernels

extension Kernels {
    /// The maximum number of outputs per piece of work.
    ///
    /// This makes the widened weights of a piece about one to two times as large as an L2 cache.
    private static var outputTile: Int { 256 }
    /// The maximum number of rows per piece of work.
    ///
    /// With this limit, a product with many rows has enough pieces for several threads, even if there are few outputs.
    private static var rowTile: Int { 512 }
    /// The largest number of rows for which a row-by-row product is faster than a blocked product.
    private static var fewRows: Int { 8 }

    func multipliesInBlocks(rows: Int) -> Bool { table == .fast && rows > Self.fewRows }

    /// Returns the product x W^T, [rows, outputs].
    ///
    /// x is [rows, inputs]. W is [outputs, inputs] and can be stored in either order.
    @specialized(where Element == Float)
    public func product(_ x: Matrix<Element>, _ weight: StoredMatrix) -> Matrix<Element> {
        precondition(x.columns == weight.inputs, "mismatched matrix sizes")
        let y = Matrix<Element>(rows: x.rows, columns: weight.outputs)
        guard x.rows > 0 else { return y }
        multiply(x, weight, into: y)
        return y
    }

    /// Adds the product x W^T, [rows, outputs], to y.
    public func addProduct(_ x: Matrix<Element>, _ weight: StoredMatrix, to y: Matrix<Element>) {
        guard multipliesInBlocks(rows: x.rows) else { return add(product(x, weight), to: y) }
        precondition(
            x.columns == weight.inputs && y.rows == x.rows && y.columns == weight.outputs, "mismatched matrix sizes")
        multiply(x, weight, into: y, adds: true)
    }

    /// Computes y = x W^T in pieces, or y += x W^T if `adds`.
    ///
    /// `adds` requires a blocked product.
    @specialized(where Element == Float)
    private func multiply(_ x: Matrix<Element>, _ weight: StoredMatrix, into y: Matrix<Element>, adds: Bool = false) {
        // Each piece starts by waiting for memory, so a single thread computes a single row in one piece. The sums do
        // not depend on how the product is split into pieces.
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
        let stride = weight.isInputMajor ? weight.outputs : inputs
        guard multipliesInBlocks(rows: x.rows) else {
            if weight.isInputMajor {
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
                Factor(weights, stride: stride, isTransposed: !weight.isInputMajor), into: target, stride: y.columns,
                adds: adds)
        }
        if element == Element.stored {
            return multiply(elements.assumingMemoryBound(to: Element.self), stride: stride)
        }
        let (height, width) = weight.isInputMajor ? (inputs, outputs.count) : (outputs.count, inputs)
        withUnsafeTemporaryAllocation(of: Element.self, capacity: height * width) { widened in
            guard let widened = widened.baseAddress else { return }
            functions.widen(element, elements, stride, height, width, widened)
            multiply(widened, stride: width)
        }
    }
}
