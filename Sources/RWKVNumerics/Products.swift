import CRWKVKernels

extension Kernels {
    /// The number of outputs per piece of work; a piece's widened weights fit into one or two L2 caches.
    private static var outputTile: Int { 256 }
    /// The number of rows per piece of work, so that several threads have work even if a weight has few outputs.
    private static var rowTile: Int { 512 }
    /// The number of rows up to which row-by-row products are faster than blocked products.
    private static var fewRows: Int { 8 }

    func multipliesInBlocks(rows: Int) -> Bool { table == .fast && rows > Self.fewRows }

    /// Computes x W^T, [rows, outputs], from x, [rows, inputs], and W, [outputs, inputs], in either storage order.
    @specialized(where Element == Float)
    public func product(_ x: Matrix<Element>, _ weight: StoredMatrix) -> Matrix<Element> {
        precondition(x.columns == weight.inputs, "mismatched matrix sizes")
        let y = Matrix<Element>(rows: x.rows, columns: weight.outputs)
        guard x.rows > 0 else { return y }
        multiply(x, weight, into: y)
        return y
    }

    /// Adds x W^T to y, [rows, outputs].
    public func addProduct(_ x: Matrix<Element>, _ weight: StoredMatrix, to y: Matrix<Element>) {
        guard multipliesInBlocks(rows: x.rows) else { return add(product(x, weight), to: y) }
        precondition(
            x.columns == weight.inputs && y.rows == x.rows && y.columns == weight.outputs, "mismatched matrix sizes")
        multiply(x, weight, into: y, adds: true)
    }

    /// Computes y = x W^T, piece by piece, or adds x W^T to y if `adds` (blocked products only).
    @specialized(where Element == Float)
    private func multiply(_ x: Matrix<Element>, _ weight: StoredMatrix, into y: Matrix<Element>, adds: Bool = false) {
        // Each piece starts by waiting for memory, so one thread computes one row as a single piece. Sums do not depend
        // on how the product is split into pieces.
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
