public import ModelFamilies
public import RWKVNumerics

/// A trainable adapter for a frozen weight matrix W, [outputs, inputs], which computes the adapted weight W'.
public struct WeightAdapter<Element: Real> {
    /// A trainable tensor of an adapter.
    public struct Factor {
        /// The role of the tensor in the adapter.
        public let part: Adapter.Part
        /// The values of the tensor.
        public let values: Matrix<Element>
        /// The accumulated gradient of the values.
        public let gradient: Matrix<Element>

        init(_ part: Adapter.Part, _ values: Matrix<Element>) {
            (self.part, self.values) = (part, values)
            gradient = Matrix(zeros: values.rows, columns: values.columns)
        }
    }

    private enum Formula {
        /// W' = W + B A, where A is [r, inputs] and B is [outputs, r] (Hu et al. 2021).
        case lora(down: Factor, up: Factor)
        /// W' is W + B A with each row rescaled to its trained magnitude; the magnitudes are [1, outputs].
        ///
        /// As in peft, the gradients treat the row norms of W + B A as constants (Liu et al. 2024, section 4.3).
        case dora(down: Factor, up: Factor, magnitudes: Factor)
        /// W'_j = W_j + (W_j + 1) B_j, where W_j is block j of r columns (Bone in RWKVInside).
        ///
        /// B_j is the corresponding block of r rows of the factor, which is [inputs, r]. 1 denotes a stack of r x r
        /// identity matrices.
        case bone(blocks: Factor)
    }

    private let base: Matrix<Element>
    private let formula: Formula

    /// Creates an adapter that initially leaves W unchanged.
    ///
    /// - Parameters:
    ///   - base: the frozen weight W.
    ///   - kind: the kind of adapter, which determines how W' is computed.
    ///   - rank: the rank r: at most the smaller of outputs and inputs, or for Bone, a common divisor of both.
    ///   - down: a function that returns the initial A, [r, inputs]; not called for Bone.
    public init(of base: Matrix<Element>, _ kind: Adapter.Kind, rank: Int, down: () -> [Element]) {
        self.base = base
        func zeros(_ rows: Int) -> Matrix<Element> { Matrix(zeros: rows, columns: rank) }
        switch kind {
        case .bone:
            precondition(base.rows % rank == 0 && base.columns % rank == 0, "rank does not divide both dimensions of W")
            formula = .bone(blocks: Factor(.bone, zeros(base.columns)))
        case .lora, .dora:
            let down = Factor(.down, Matrix(down(), columns: base.columns))
            let up = Factor(.up, zeros(base.rows))
            precondition(down.values.rows == rank, "A does not have the given rank")
            guard kind == .dora else {
                formula = .lora(down: down, up: up)
                return
            }
            let lengths = base.lengths.map { Element($0) }
            formula = .dora(
                down: down, up: up, magnitudes: Factor(.magnitude, Matrix(lengths, columns: lengths.count)))
        }
    }

    /// All trainable tensors of the adapter.
    public var factors: [Factor] {
        switch formula {
        case .lora(let down, let up): [down, up]
        case .dora(let down, let up, let magnitudes): [down, up, magnitudes]
        case .bone(let blocks): [blocks]
        }
    }

    /// Computes the adapted weight W', [outputs, inputs].
    public func merged(_ kernels: Kernels<Element>) -> Matrix<Element> {
        switch formula {
        case .lora(let down, let up):
            return sum(down, up, kernels)
        case .dora(let down, let up, let magnitudes):
            let sum = sum(down, up, kernels)
            kernels.scaleRows(of: sum, by: zip(magnitudes.values.array, sum.lengths).map { Double($0) / $1 })
            return sum
        case .bone(let blocks):
            let merged = base.copy()
            for (columns, part) in parts(of: blocks, kernels) {
                let change = kernels.product(
                    part, StoredMatrix(sharing: blocks.values.rows(columns), isInputMajor: true))
                kernels.add(base.columns(columns), to: change)
                merged.replaceColumns(from: columns.lowerBound, by: change)
            }
            return merged
        }
    }

    /// Adds the gradients of all factors to their accumulators.
    ///
    /// - Parameters:
    ///   - gradient: the gradient of W', [outputs, inputs], which this method may overwrite.
    ///   - kernels: the kernels to use.
    public func backward(_ gradient: Matrix<Element>, _ kernels: Kernels<Element>) {
        switch formula {
        case .lora(let down, let up):
            sumBackward(gradient, down, up, kernels)
        case .dora(let down, let up, let magnitudes):
            let sum = sum(down, up, kernels)
            let lengths = sum.lengths
            let products = zip(sum.rowProducts(gradient), lengths).map { Element($0 / $1) }
            kernels.add(Matrix(products, columns: products.count), to: magnitudes.gradient)
            kernels.scaleRows(of: gradient, by: zip(magnitudes.values.array, lengths).map { Double($0) / $1 })
            sumBackward(gradient, down, up, kernels)
        case .bone(let blocks):
            for (columns, part) in parts(of: blocks, kernels) {
                let block = blocks.gradient.rows(columns)
                kernels.addGradient(
                    to: block, of: StoredMatrix(sharing: block), part, gradient.columns(columns))
                blocks.gradient.replaceRows(from: columns.lowerBound, by: block)
            }
        }
    }

    /// Returns W + B A, [outputs, inputs].
    private func sum(_ down: Factor, _ up: Factor, _ kernels: Kernels<Element>) -> Matrix<Element> {
        let sum = kernels.product(up.values, StoredMatrix(sharing: down.values, isInputMajor: true))
        kernels.add(base, to: sum)
        return sum
    }

    private func sumBackward(
        _ gradient: Matrix<Element>, _ down: Factor, _ up: Factor, _ kernels: Kernels<Element>
    ) {
        kernels.add(kernels.product(gradient, StoredMatrix(sharing: down.values)), to: up.gradient)
        kernels.addGradient(to: down.gradient, of: StoredMatrix(sharing: down.values), up.values, gradient)
    }

    /// Returns, for each block j, its range of columns in W, and the matrix W_j + 1, [outputs, r].
    private func parts(
        of blocks: Factor, _ kernels: Kernels<Element>
    ) -> [(columns: Range<Int>, part: Matrix<Element>)] {
        let rank = blocks.values.columns
        let ones = Matrix<Element>((0..<base.rows * rank).map { $0 / rank % rank == $0 % rank ? 1 : 0 }, columns: rank)
        return base.columns.parts(of: rank).map { columns in
            let part = base.columns(columns)
            kernels.add(ones, to: part)
            return (columns, part)
        }
    }
}

extension Kernels {
    /// Multiplies each row of `x` by the corresponding factor, in place.
    fileprivate func scaleRows(of x: Matrix<Element>, by factors: [Double]) {
        scaleDifferences(inPlace: x, to: Matrix(zeros: x.rows, columns: x.columns), by: factors)
    }
}

extension Matrix {
    /// Returns the dot product of each row with the corresponding row of another matrix.
    @specialized(where Element == Float)
    fileprivate func rowProducts(_ other: Matrix) -> [Double] {
        (0..<rows).map { row in
            withRow(row) { x in
                other.withRow(row) { y in x.indices.reduce(0) { $0 + Double(x[$1]) * Double(y[$1]) } }
            }
        }
    }

    /// The Euclidean norm of each row.
    fileprivate var lengths: [Double] { rowProducts(self).map { $0.squareRoot() } }
}
