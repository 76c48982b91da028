public import CheckpointFiles
public import RWKVInference
public import RWKVNumerics

/// The divergence of a student's logits from its teacher's: stage 2.
public struct LogitDivergence: Sendable {
    /// What logits are divided by.
    public var temperature = 1.0
    /// Whose logits are.
    public var divides = Divided.both
    /// How much of the cross entropy of the next token is added.
    public var crossEntropyWeight = 0.0

    /// Whose logits a temperature divides.
    public enum Divided: String, Sendable, CaseIterable {
        /// T^2 KL(softmax(z_T / T) || softmax(z_S / T)) (Hinton, Vinyals and Dean 2015; RWKVInside, klloss.py).
        case both
        /// KL(softmax(z_T / T) || softmax(z_S)) (RWKVInside, train_functions.py).
        case teacher
    }

    /// KL at temperature 1.
    public init() {}

    /// Tokens whose logits are there at once.
    private static let together = 64

    /// The loss, averaged over tokens, and its gradient.
    ///
    /// - Parameters:
    ///   - hidden: the student's residual stream, [tokens, C].
    ///   - model: the student.
    ///   - next: the token behind each; negative where there is none.
    ///   - kernels: what it is computed with.
    ///   - targets: gives the teacher's logits of some tokens.
    /// - Returns: the loss, and the gradient of `hidden`.
    /// - Throws: ``CheckpointError``, as models do.
    public func callAsFunction<Element: Real>(
        _ hidden: Matrix<Element>, of model: Model<Element>, next: [Int64], _ kernels: Kernels<Element>,
        targets: (Range<Int>) throws(CheckpointError) -> Matrix<Element>
    ) throws(CheckpointError) -> (loss: Double, gradient: Matrix<Element>) {
        let scale = 1 / temperature
        let (ownScale, weight) = divides == .both ? (scale, temperature * temperature) : (1, 1)
        let predicting = next.count { $0 >= 0 }
        let crossEntropyFactor = crossEntropyWeight / Double(max(1, predicting))
        var loss = 0.0
        let gradient = Matrix<Element>(rows: hidden.rows, columns: hidden.columns)
        for rows in hidden.rows.parts(of: Self.together) {
            let part = hidden.rows(rows)
            let logits = try model.logits(part, kernels)
            let (divergences, dlogits) = kernels.divergence(
                targets: try targets(rows), logits: logits, targetScale: scale, scale: ownScale,
                factor: weight * ownScale / Double(hidden.rows))
            loss += divergences.reduce(0, +) * weight / Double(hidden.rows)
            if crossEntropyWeight != 0 {
                let losses = kernels.crossEntropy(
                    logits: logits, next: Array(next[rows]), factor: crossEntropyFactor, addingTo: dlogits)
                loss += losses.reduce(0, +) * crossEntropyFactor
            }
            gradient.replaceRows(from: rows.lowerBound, by: model.logitsBackward(dlogits, part, kernels))
        }
        return (loss, gradient)
    }
}

/// How far what a layer gives is from what its teacher's does: stage 1.
public enum AlignmentLoss: String, Sendable, CaseIterable {
    /// |t - s| / |t|, over all tokens at once.
    case relativeL2 = "relative-l2"
    /// |t - s| / sqrt(C), averaged over tokens (RADLADS).
    case l2Norm = "l2-norm"
    /// The mean squared difference, in the scale of the last layer (RWKVInside, train_functions.py).
    case scaledMSE = "scaled-mse"

    /// The loss of one layer, and its gradient.
    ///
    /// - Parameters:
    ///   - student: [tokens, C]; becomes the gradient.
    ///   - teacher: [tokens, C].
    ///   - lastNorm: the mean norm of a token in what the last layer's teacher gives.
    ///   - kernels: what it is computed with.
    /// - Returns: the loss.
    public func callAsFunction<Element: Real>(
        inPlace student: Matrix<Element>, teacher: Matrix<Element>, lastNorm: Double, _ kernels: Kernels<Element>
    ) -> Double {
        let (squares, targetSquares) = kernels.distances(student, to: teacher)
        let (rows, width) = (Double(student.rows), Double(student.columns))
        let loss: Double
        let factors: [Double]
        switch self {
        case .relativeL2:
            let distance = squares.reduce(0, +).squareRoot()
            let size = targetSquares.reduce(0, +).squareRoot()
            loss = distance / size
            factors = squares.map { _ in distance == 0 ? 0 : 1 / (distance * size) }
        case .l2Norm:
            loss = squares.reduce(0) { $0 + $1.squareRoot() } / (rows * width.squareRoot())
            factors = squares.map { $0 == 0 ? 0 : 1 / ($0.squareRoot() * rows * width.squareRoot()) }
        case .scaledMSE:
            let scale = lastNorm / Self.meanNorm(targetSquares)
            let factor = 175 / 64 / lastNorm * scale * scale / (rows * width)
            loss = factor * squares.reduce(0, +)
            factors = squares.map { _ in 2 * factor }
        }
        kernels.scaleDifferences(inPlace: student, to: teacher, by: factors)
        return loss
    }

    /// The mean norm of a token.
    static func meanNorm(_ squares: [Double]) -> Double {
        squares.reduce(0) { $0 + $1.squareRoot() } / Double(max(1, squares.count))
    }
}
