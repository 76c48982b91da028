public import Bytes
import CheckpointFiles
public import RWKVInference
public import RWKVNumerics

/// Stage 2 of distillation, which minimises the KL divergence of the student's predictions from the teacher's.
public struct LogitDivergence: Sendable, Hashable {
    /// The softmax temperature, which divides the logits.
    public var temperature = 1.0
    /// The models whose logits are divided by the temperature.
    public var divides = TemperatureTarget.both
    /// The weight of the next-token cross-entropy in the loss.
    public var crossEntropyWeight = 0.0

    /// Whether gradients flow through k_first and v_first to the layer that provides them.
    public var propagatesFirstValues = false

    /// The models whose logits are divided by the temperature T.
    public enum TemperatureTarget: String, Sendable, CaseIterable {
        /// T^2 KL(softmax(z_T / T) || softmax(z_S / T)) (Hinton, Vinyals and Dean 2015; RWKVInside, klloss.py).
        case both
        /// KL(softmax(z_T / T) || softmax(z_S)) (RWKVInside, train_functions.py).
        case teacher
    }

    /// Creates a KL divergence at temperature 1, in which k_first and v_first are detached.
    public init() {}

    /// Accumulates the gradients of the loss for the given sequences.
    ///
    /// - Parameters:
    ///   - student: the model to train.
    ///   - teacher: a model with the same vocabulary as the student.
    ///   - tokens: the tokens of all sequences, concatenated; the sequences have equal length.
    ///   - sequences: the number of sequences.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Returns: the loss, averaged over tokens.
    /// - Throws: `CheckpointError`: `malformed` if tokens cannot be divided into sequences of equal length,
    ///   `cancelled`, or any error from running a model.
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
        try student.backward(run, gradient, propagatesFirstValues: propagatesFirstValues, kernels, progress: progress)
        return loss
    }

    /// The target number of logits per chunk; a chunk always has at least `logitRowsPerChunk` rows.
    private static let logitsPerChunk = 1 << 20

    /// Computes the loss, averaged over tokens, and its gradient with respect to the residual stream.
    ///
    /// - Parameters:
    ///   - hidden: the student's residual stream after the last layer, [tokens, C].
    ///   - model: the student.
    ///   - next: the token that follows each token; negative if there is none.
    ///   - kernels: the kernels to use.
    ///   - targets: a closure that returns the teacher's logits for a range of tokens, [rows, V].
    /// - Returns: the loss, and its gradient with respect to `hidden`, [tokens, C].
    /// - Throws: the errors of `targets`.
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
        let rowsPerChunk = max(logitRowsPerChunk, Self.logitsPerChunk / max(1, model.vocabulary))
        for rows in hidden.rows.parts(of: rowsPerChunk) {
            let part = hidden.rows(rows)
            // Logits can be non-finite here, because the optimiser skips a step whose gradients are not finite.
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
