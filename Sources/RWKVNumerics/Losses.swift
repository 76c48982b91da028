import CRWKVKernels

// Loss functions, their gradients and the optimiser step.
extension Kernels {
    /// Computes the divergence KL(softmax(targets / t) || softmax(logits / s)) of each row, and its gradient.
    ///
    /// - Parameters:
    ///   - targets: the teacher's logits, [rows, V].
    ///   - logits: the student's logits, [rows, V].
    ///   - targetScale: the factor for the teacher's logits, 1 / t.
    ///   - scale: the factor for the student's logits, 1 / s.
    ///   - factor: the factor for gradients, which must include 1 / s.
    /// - Returns: the divergences in nats, and the gradients (q - p) * factor, [rows, V], where p is the softmax of the
    ///   targets and q is the softmax of the logits.
    public func divergence(
        targets: Matrix<Element>, logits: Matrix<Element>, targetScale: Double, scale: Double, factor: Double
    ) -> ([Double], Matrix<Element>) {
        precondition(targets.rows == logits.rows && targets.columns == logits.columns, "mismatched matrix sizes")
        let gradient = Matrix<Element>(rows: logits.rows, columns: logits.columns)
        let losses = eachRow(of: logits) { start, count, losses in
            let offset = start * logits.columns
            functions.divergence(
                targets.elements + offset, logits.elements + offset, count, logits.columns, targetScale, scale, factor,
                gradient.elements + offset, losses)
        }
        return (losses, gradient)
    }

    /// Computes the cross-entropy -log p of each row's next token, and adds its gradient times `factor` to `gradient`.
    ///
    /// - Parameters:
    ///   - logits: the logits, [rows, V].
    ///   - next: the next token of each row; negative if the row has none.
    ///   - factor: the factor for gradients.
    ///   - gradient: the accumulator for the gradient, [rows, V].
    /// - Returns: the losses in nats; zero for rows without a next token.
    public func crossEntropy(
        logits: Matrix<Element>, next: [Int64], factor: Double, addingTo gradient: Matrix<Element>
    ) -> [Double] {
        precondition(
            next.count == logits.rows && gradient.count == logits.count
                && next.allSatisfy { $0 < Int64(logits.columns) }, "mismatched matrix sizes")
        return eachRow(of: logits) { start, count, losses in
            let offset = start * logits.columns
            functions.cross_entropy(
                logits.elements + offset, Array(next[start..<start + count]), count, logits.columns, factor,
                gradient.elements + offset, losses)
        }
    }

    /// Returns the sum of (x - target)^2 and the sum of target^2 for each row.
    public func distances(
        _ x: Matrix<Element>, to target: Matrix<Element>
    ) -> (squares: [Double], targetSquares: [Double]) {
        precondition(x.rows == target.rows && x.columns == target.columns, "mismatched matrix sizes")
        var targetSquares = [Double](repeating: 0, count: x.rows)
        let squares = targetSquares.withUnsafeMutableBufferPointer { targetSquares in
            nonisolated(unsafe) let others = targetSquares.baseAddress
            return eachRow(of: x) { start, count, squares in
                let offset = start * x.columns
                functions.distances(
                    target.elements + offset, x.elements + offset, count, x.columns, squares, others.map { $0 + start })
            }
        }
        return (squares, targetSquares)
    }

    /// Replaces each row of x with x - target, multiplied by the factor for that row.
    public func scaleDifferences(inPlace x: Matrix<Element>, to target: Matrix<Element>, by factors: [Double]) {
        precondition(x.count == target.count && factors.count == x.rows, "mismatched matrix sizes")
        overRows(of: x) { start, count in
            let offset = start * x.columns
            functions.scaled_differences(
                target.elements + offset, Array(factors[start..<start + count]), count, x.columns, x.elements + offset)
        }
    }

    /// Returns the sum of the squares of all elements.
    public func sumOfSquares(_ x: Matrix<Element>) -> Double { distances(x, to: x).targetSquares.reduce(0, +) }

    /// Takes one step of AdamW (Loshchilov and Hutter 2019), in place.
    ///
    /// - Parameters:
    ///   - x: the parameters; updated.
    ///   - gradient: the gradient of x.
    ///   - moments: the running means of gradients and of squared gradients, each with as many elements as x; updated.
    ///   - step: the coefficients of this step.
    public func adamW(
        _ x: Matrix<Element>, gradient: Matrix<Element>, moments: (first: Matrix<Element>, second: Matrix<Element>),
        _ step: AdamWStep
    ) {
        precondition(
            [gradient, moments.first, moments.second].allSatisfy { $0.count == x.count }, "mismatched matrix sizes")
        overRows(of: x) { start, count in
            let offset = start * x.columns
            functions.adamw(
                gradient.elements + offset, count * x.columns, step.gradientScale, step.rate, step.weightDecay,
                [step.betas.0, step.betas.1], [step.corrections.0, step.corrections.1], step.epsilon,
                moments.first.elements + offset, moments.second.elements + offset, x.elements + offset)
        }
    }

    private func eachRow(
        of matrix: Matrix<Element>, _ work: (_ start: Int, _ count: Int, UnsafeMutablePointer<Double>) -> Void
    ) -> [Double] {
        [Double](unsafeUninitializedCapacity: matrix.rows) { buffer, initializedCount in
            if let values = buffer.baseAddress {
                nonisolated(unsafe) let values = values
                overRows(of: matrix) { start, count in work(start, count, values + start) }
            }
            initializedCount = matrix.rows
        }
    }
}

/// The coefficients of one step of AdamW.
public struct AdamWStep: Sendable {
    /// The factor that gradients are multiplied by.
    public var gradientScale: Double
    /// The learning rate.
    public var rate: Double
    /// The decoupled weight decay: each step subtracts rate * weightDecay * x from x.
    public var weightDecay: Double
    /// Beta1 and beta2: the fractions of the first and second moments that each step keeps.
    public var betas: (Double, Double)
    /// The bias corrections 1 - beta^t of the first and second moments at step t.
    public var corrections: (Double, Double)
    /// The number that is added to the square root of the corrected second moment.
    public var epsilon: Double

    /// Creates the coefficients of one step.
    public init(
        gradientScale: Double, rate: Double, weightDecay: Double, betas: (Double, Double),
        corrections: (Double, Double), epsilon: Double
    ) {
        self.gradientScale = gradientScale
        self.rate = rate
        self.weightDecay = weightDecay
        self.betas = betas
        self.corrections = corrections
        self.epsilon = epsilon
    }
}
