public import CheckpointFiles
public import RWKVInference
public import RWKVNumerics

/// The divergence of a student's logits from its teacher's: stage 2.
public struct LogitDivergence: Sendable, Hashable {
    /// What logits are divided by.
    public var temperature = 1.0
    /// Whose logits are.
    public var divides = Divided.both
    /// How much of the cross entropy of the next token is added.
    public var crossEntropyWeight = 0.0

    /// Whether gradients pass through the first keys and values.
    public var passesFirstValues = false

    /// Whose logits a temperature divides.
    public enum Divided: String, Sendable, CaseIterable {
        /// T^2 KL(softmax(z_T / T) || softmax(z_S / T)) (Hinton, Vinyals and Dean 2015; RWKVInside, klloss.py).
        case both
        /// KL(softmax(z_T / T) || softmax(z_S)) (RWKVInside, train_functions.py).
        case teacher
    }

    /// KL at temperature 1, without gradients through first values.
    public init() {}

    /// Adds the gradients of some sequences.
    ///
    /// - Parameters:
    ///   - student: whose weights change.
    ///   - teacher: of the same vocabulary.
    ///   - tokens: of sequences of the same length, one behind the other.
    ///   - sequences: how many there are.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    /// - Returns: the loss.
    /// - Throws: ``CheckpointError``, as models do, or of category `cancelled`.
    public func callAsFunction<Element: Real>(
        _ student: TrainedModel<Element>, _ teacher: Model<Element>, _ tokens: [Int], sequences: Int,
        _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> Double {
        guard sequences > 0, tokens.count % sequences == 0 else {
            throw CheckpointError(
                .malformed, path: teacher.checkpoint.path, "tokens cannot be divided into sequences of the same length",
                expected: "a multiple of \(sequences)", found: "\(tokens.count)")
        }
        let length = tokens.count / sequences
        var state = teacher.start(length: length, sequences: sequences)
        let theirs = try teacher.hidden(tokens, &state, kernels, progress: progress)
        let run = try student.run(tokens, sequences: sequences, kernels, progress: progress)
        let next = tokens.indices.map { $0 % length + 1 < length ? Int64(tokens[$0 + 1]) : -1 }
        let (loss, gradient) = try self(
            run.hidden, of: student.model, next: next, kernels,
            targets: { (rows) throws(CheckpointError) in
                try progress.check(teacher.checkpoint.path)
                return try teacher.logits(theirs.rows(rows), kernels)
            })
        try student.backward(run, gradient, passesFirstValues: passesFirstValues, kernels, progress: progress)
        return loss
    }

    /// Logits that are made together, where a vocabulary is so small that they are of more tokens than elsewhere.
    private static let numbersTogether = 1 << 20

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
        let together = max(logitsTogether, Self.numbersTogether / max(1, model.vocabulary))
        for rows in hidden.rows.parts(of: together) {
            let part = hidden.rows(rows)
            // What is not finite is a step that is passed over.
            let logits = model.uncheckedLogits(part, kernels)
            let (divergences, dlogits) = kernels.divergence(
                targets: try targets(rows), logits: logits, targetScale: scale, scale: ownScale,
                factor: weight * ownScale / Double(hidden.rows))
            loss += divergences.reduce(0, +) * weight / Double(hidden.rows)
            if crossEntropyWeight != 0 {
                let losses = kernels.crossEntropy(
                    logits: logits, next: Array(next[rows]), factor: crossEntropyFactor, addingTo: dlogits)
                loss += losses.reduce(0, +) * crossEntropyFactor
            }
            gradient.replaceRows(from: rows.lowerBound, by: model.logitsBackward(dlogits, logits, part, kernels))
        }
        return (loss, gradient)
    }
}
