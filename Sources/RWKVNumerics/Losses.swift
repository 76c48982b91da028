import CRWKVKernels

// Losses with their gradients, and the step that follows.
extension Kernels {
    /// KL(softmax(targets / t) || softmax(logits / s)) of each row.
    ///
    /// - Parameters:
    ///   - targets: the teacher's logits, [rows, V].
    ///   - logits: the student's.
    ///   - targetScale: 1 / t.
    ///   - scale: 1 / s.
    ///   - factor: what gradients are multiplied with, s included.
    /// - Returns: divergences in nats, and (p - p of the target) factor, [rows, V].
    public func divergence(
        targets: Matrix<Element>, logits: Matrix<Element>, targetScale: Double, scale: Double, factor: Double
    ) -> ([Double], Matrix<Element>) {
        precondition(targets.rows == logits.rows && targets.columns == logits.columns, "matrices of other sizes")
        let gradient = Matrix<Element>(rows: logits.rows, columns: logits.columns)
        let losses = eachRow(of: logits) { start, count, losses in
            let offset = start * logits.columns
            functions.divergence(
                targets.elements + offset, logits.elements + offset, count, logits.columns, targetScale, scale, factor,
                gradient.elements + offset, losses)
        }
        return (losses, gradient)
    }

    /// -log p of the next token of each row, whose gradient times `factor` is added to `gradient`.
    ///
    /// - Parameters:
    ///   - logits: [rows, V].
    ///   - next: a token for each row; negative where there is none.
    ///   - factor: what gradients are multiplied with.
    ///   - gradient: [rows, V].
    /// - Returns: in nats; zero where there is none.
    public func crossEntropy(
        logits: Matrix<Element>, next: [Int64], factor: Double, addingTo gradient: Matrix<Element>
    ) -> [Double] {
        precondition(
            next.count == logits.rows && gradient.count == logits.count
                && next.allSatisfy { $0 < Int64(logits.columns) }, "matrices of other sizes")
        return eachRow(of: logits) { start, count, losses in
            let offset = start * logits.columns
            functions.cross_entropy(
                logits.elements + offset, Array(next[start..<start + count]), count, logits.columns, factor,
                gradient.elements + offset, losses)
        }
    }

    /// Of each row the sums of (x - target)^2 and of target^2.
    public func distances(
        _ x: Matrix<Element>, to target: Matrix<Element>
    ) -> (squares: [Double], targetSquares: [Double]) {
        precondition(x.rows == target.rows && x.columns == target.columns, "matrices of other sizes")
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

    /// (x - target) factor, with a factor for each row, in the place of x.
    public func scaleDifferences(inPlace x: Matrix<Element>, to target: Matrix<Element>, by factors: [Double]) {
        precondition(x.count == target.count && factors.count == x.rows, "matrices of other sizes")
        overRows(of: x) { start, count in
            let offset = start * x.columns
            functions.scaled_differences(
                target.elements + offset, Array(factors[start..<start + count]), count, x.columns, x.elements + offset)
        }
    }

    /// The sum of all numbers' squares.
    public func sumOfSquares(_ x: Matrix<Element>) -> Double { distances(x, to: x).targetSquares.reduce(0, +) }

    /// A step of AdamW (Loshchilov and Hutter 2019).
    ///
    /// - Parameters:
    ///   - x: what changes.
    ///   - gradient: of x.
    ///   - moments: of gradients and of their squares, as long as x; carried on.
    ///   - step: its coefficients.
    public func adamW(
        _ x: Matrix<Element>, gradient: Matrix<Element>, moments: (first: Matrix<Element>, second: Matrix<Element>),
        _ step: AdamWStep
    ) {
        precondition(
            [gradient, moments.first, moments.second].allSatisfy { $0.count == x.count }, "matrices of other sizes")
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

/// The coefficients of a step of AdamW.
public struct AdamWStep: Sendable {
    /// What gradients are multiplied with.
    public var gradientScale: Double
    /// The learning rate.
    public var rate: Double
    /// What of x is taken away, times the rate.
    public var weightDecay: Double
    /// How much of the moments stays.
    public var betas: (Double, Double)
    /// 1 - beta^t.
    public var corrections: (Double, Double)
    /// Added to the root of the second moment.
    public var epsilon: Double

    /// Coefficients.
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
