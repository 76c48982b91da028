public import Bytes
public import CheckpointFiles
public import ModelFamilies
import RWKVDistillation
public import RWKVInference
import RWKVLayers
public import RWKVNumerics
import TokenFiles

extension SpeedMeasurements {
    /// Measures training steps of a student in stage 1 (alignment) and stage 2 (logits).
    ///
    /// - Parameters:
    ///   - teacher: the teacher model.
    ///   - checkpoint: the student's checkpoint.
    ///   - description: the description of the student model.
    ///   - size: the number of sequences per step and the number of tokens per sequence.
    ///   - memory: the memory limit for a step in bytes.
    ///   - runs: the number of steps to time in each stage.
    ///   - kernels: the kernels to measure.
    ///   - progress: an object that receives the number of completed steps and can cancel the work.
    /// - Returns: the measurements.
    /// - Throws: `CheckpointError` of category `cancelled`, or any error that `Distillation` throws.
    public static func ofTraining(
        _ teacher: Model<Float>, _ checkpoint: Checkpoint, _ description: ModelDescription,
        size: (batch: Int, context: Int), memory: Int, runs: Int, _ kernels: Kernels<Float>, progress: WorkProgress
    ) throws(CheckpointError) -> SpeedMeasurements {
        var random = SplitMix64(seed: 0)
        let sequences = (0..<size.batch).map { _ in
            (0..<size.context).map { _ in Int(random.next() % UInt64(teacher.vocabulary)) }
        }
        let tokens = try TokenSequences(sequences, path: checkpoint.path)
        let count = size.batch * size.context
        var peaks = MachinePeaks()
        var measurements: [SpeedMeasurement] = []
        for stage in [
            DistillationSettings.Stage.alignment(Alignment()), .divergence(LogitDivergence(), temperatures: [1]),
        ] {
            var settings = DistillationSettings(stage, steps: runs + 1, learningRate: LearningRate(1e-6))
            (settings.batch, settings.context) = size
            var distillation = try Distillation(teacher, checkpoint, description, tokens, settings)
            try distillation.checkMemory(atMost: memory)
            var timings = Timings()
            for step in 0...runs {
                if step == 0 {
                    _ = try distillation.next(kernels, progress: progress)
                } else {
                    try timings.time { () throws(CheckpointError) in
                        _ = try distillation.next(kernels, progress: progress)
                    }
                    peaks.lookAtArithmetic(kernels)
                }
                progress.advance(by: 1, of: 2 * (runs + 1))
            }
            let student = distillation.student.model
            let matrices = [teacher, student].flatMap { $0.layers.flatMap(\.matrices) + [$0.head] }
            measurements.append(
                SpeedMeasurement(
                    subject: measurements.isEmpty ? .alignment : .divergence,
                    dtype: teacher.checkpoint.dtypeTotals.first?.dtype.rawValue ?? "", tokens: count, timings: timings,
                    operations: Double(count) * stage.operations(teacher, student, context: size.context),
                    bytes: matrices.byteCount))
            peaks.lookAtMemory(matrices.map(\.bytes), kernels)
        }
        return SpeedMeasurements(
            kernels, peaks, plainOperationsPerSecond: plainOperationsPerSecond(), measurements)
    }
}

extension DistillationSettings.Stage {
    /// Returns the number of operations per token in matrix products and recurrences.
    ///
    /// The backward pass of a matrix product takes as many operations as the forward pass for the gradient of the
    /// input, and as many again for the gradient of the weights. The gradient of the input is not needed for mixers
    /// that are trained individually, or for the lowest layer. The gradient of the weights is needed only for trained
    /// weights.
    fileprivate func operations(
        _ teacher: Model<Float>, _ student: Model<Float>, context: Int
    ) -> Double {
        let theirs = teacher.layers.flatMap(\.matrices).operations + teacher.mixingOperations(context)
        let first = student.layers.flatMap(\.mixerMatrices.ofInput).operations
        let mixers = first + student.layers.flatMap(\.mixerMatrices.others).operations
        let own =
            3 * mixers + student.mixingOperations(context, recurrence: SpeedMeasurement.recurrenceWithGradients)
        switch self {
        case .alignment:
            return theirs - (teacher.layers.last?.feedForward.matrices ?? []).operations + own - first
        case .divergence:
            let rest = student.layers.flatMap(\.matrices).operations - mixers + [student.head].operations
            let lowest = (student.layers.first?.mixerMatrices.ofInput ?? []).operations
            return theirs + [teacher.head].operations + own - lowest + 2 * rest
        }
    }
}
