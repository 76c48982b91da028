public import Bytes
import CheckpointFiles
import RWKVInference
public import RWKVNumerics
public import TokenFiles

/// A distillation run that trains, evaluates and saves a student in an output directory, and that can be interrupted
/// and resumed.
///
///     let student = try Checkpoint.open("student")
///     var run = try DistillationRun(Distillation(teacher, student, description, tokens, settings), in: "aligned")
///     try run.finish(kernels, progress: progress)
///
/// If the run is cancelled after at least one step, its state is saved. To resume it, recreate the distillation with
/// the same settings, teacher and tokens, and with the student that was saved in the directory, and set
/// ``Options/resumes``. If all steps are computed with the same ``Arithmetic``, or all with strict kernels, the final
/// files have the same bytes as those of an uninterrupted run. Otherwise the run issues a warning.
public struct DistillationRun {
    /// The options for evaluating, saving and resuming a run.
    public struct Options {
        /// The held-out tokens to evaluate the student on, before the first step, at each checkpoint, and after the
        /// last step.
        public var evaluationTokens: [TokenSequences] = []
        /// The number of steps between checkpoints, at which the student is evaluated and saved; nil for no
        /// checkpoints.
        public var checkpointInterval: Int?
        /// The path of the config.json that was used to load the student; nil if it is next to the student's
        /// checkpoint.
        public var configuration: String?
        /// Whether to resume the unfinished run in the directory.
        public var resumes = false
        /// Whether to replace files of an earlier run in the directory.
        public var replaces = false
        /// A function that generates the pages to save next to the log.
        public var pages: (DistillationRun) -> [DistillationPage: String] = { _ in [:] }

        /// Creates options for a run in a new or empty directory, without evaluations or checkpoints.
        public init() {}
    }

    /// An event that a run reports to its caller.
    public enum Event {
        /// A step was completed.
        case step(DistillationStep)
        /// The run issued a warning for the user.
        case warning(CheckpointWarning)
    }

    /// The path of the output directory.
    public let path: String
    /// The options for evaluating, saving and resuming.
    public let options: Options
    /// The distillation that the run performs.
    public internal(set) var distillation: Distillation<Float>
    /// The log so far, including the entries from before the run was resumed.
    public internal(set) var log = DistillationLog()
    /// The warnings that the run has issued for the user.
    public private(set) var warnings: [CheckpointWarning] = []
    /// Whether this run is allowed to replace the contents of the directory.
    var ownsDirectory: Bool

    /// Creates a run that performs a distillation.
    ///
    /// - Parameters:
    ///   - distillation: the distillation to perform, at step 0.
    ///   - path: the path of the output directory, which is written when the run is saved.
    ///   - options: the options for evaluating, saving and resuming.
    /// - Throws: `CheckpointError`: `unsupported` if a step needs more memory than the machine has, `malformed` if a
    ///   held-out token is outside the vocabulary, or `cannotCreate` if the directory contains files that must not be
    ///   replaced.
    public init(
        _ distillation: Distillation<Float>, in path: String, _ options: Options = Options()
    ) throws(CheckpointError) {
        for tokens in options.evaluationTokens { try tokens.check(vocabulary: distillation.teacher.vocabulary) }
        try distillation.checkMemory(atMost: physicalMemory())
        ownsDirectory = options.resumes || options.replaces
        try Self.checkDirectory(path, replaces: ownsDirectory)
        (self.distillation, self.path, self.options) = (distillation, path, options)
    }

    /// Performs all remaining steps and evaluations, and saves the run.
    ///
    /// - Parameters:
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work. A cancelled run is saved if at least one
    ///     step has been completed.
    ///   - notify: a closure that is called with each event.
    /// - Throws: `CheckpointError`: `cancelled`; `notFound`, `malformed` or `unsupported` if the run to resume is
    ///   missing, is not valid, or had different settings or inputs; the errors of ``Distillation/next(_:progress:)``;
    ///   any error from an evaluation (the run is saved first if at least one step has been completed); or
    ///   `cannotCreate` or `inputOutput` if the run cannot be saved.
    public mutating func finish(
        _ kernels: Kernels<Float>, progress: WorkProgress = WorkProgress(), notify: (Event) -> Void = { _ in }
    ) throws(CheckpointError) {
        try finish(kernels, Arithmetic(kernels), progress: progress, notify: notify)
    }

    /// Finishes the run, and records `arithmetic` in the log instead of the arithmetic of `kernels`.
    mutating func finish(
        _ kernels: Kernels<Float>, _ arithmetic: Arithmetic, progress: WorkProgress = WorkProgress(),
        notify: (Event) -> Void = { _ in }
    ) throws(CheckpointError) {
        let inputs = try InputDigests(distillation, threads: kernels.threads, progress: progress)
        if options.resumes { try resume(inputs, kernels, progress) }
        note(arithmetic, notify)
        if !options.resumes { try evaluate(inputs, kernels, progress) }
        let clock = ContinuousClock()
        while !distillation.isDone {
            let start = clock.now
            let step: DistillationStep
            do throws(CheckpointError) { step = try distillation.next(kernels, progress: progress) } catch {
                if error.category == .cancelled { try saveUnfinished(inputs) }
                throw error
            }
            log.add(step, tokens: distillation.settings.tokens, seconds: (clock.now - start) / .seconds(1))
            notify(.step(step))
            if let interval = options.checkpointInterval, step.number % max(1, interval) == 0, !distillation.isDone {
                try evaluate(inputs, kernels, progress)
                try save(inputs)
            }
        }
        try evaluate(inputs, kernels, progress)
        try save(inputs)
    }

    /// Records the arithmetic of the next steps, and issues a warning if the arithmetic of earlier steps gives
    /// different bytes.
    private mutating func note(_ arithmetic: Arithmetic, _ notify: (Event) -> Void) {
        if let other = log.arithmetics.first(where: { !$0.givesSameBytes(as: arithmetic) }) {
            let warning = CheckpointWarning(
                path: path,
                "the run was computed with \(other.text) and is resumed with \(arithmetic.text): its files will differ from those of an uninterrupted run"
            )
            warnings.append(warning)
            notify(.warning(warning))
        }
        if !(log.arithmetics.last?.givesSameBytes(as: arithmetic) ?? false) { log.add(arithmetic) }
    }

    /// Evaluates the student on all held-out tokens that the log has no evaluation for at the current step.
    private mutating func evaluate(
        _ inputs: InputDigests, _ kernels: Kernels<Float>, _ progress: WorkProgress
    ) throws(CheckpointError) {
        do throws(CheckpointError) {
            for tokens in options.evaluationTokens where !isEvaluated(on: tokens.path) {
                let found = try HeldOut(
                    distillation.teacher, distillation.student.model, tokens, kernels, progress: progress)
                log.add(found, path: tokens.path)
            }
        } catch {
            try saveUnfinished(inputs)
            throw error
        }
    }

    private func isEvaluated(on path: String) -> Bool {
        log.evaluations.contains { $0.step == distillation.step && $0.path.utf8.elementsEqual(path.utf8) }
    }

    /// Saves the unfinished run if at least one step has been completed.
    private mutating func saveUnfinished(_ inputs: InputDigests) throws(CheckpointError) {
        if distillation.step > 0 { try save(inputs, isComplete: false) }
    }
}
