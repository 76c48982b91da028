public import CheckpointFiles
import RWKVInference
public import RWKVNumerics
public import TokenFiles

/// A distillation with an output directory: it trains, evaluates and saves, and can be interrupted and resumed.
///
///     let student = try Checkpoint.open("student")
///     var run = try DistillationRun(Distillation(teacher, student, description, tokens, settings), in: "aligned")
///     try run.finish(kernels, progress: progress)
///
/// A run that is cancelled through its progress saves its state. To resume it, make the distillation again with the same
/// settings, teacher and tokens and the student in the directory, and set ``Options/resumes``. It ends with the same bytes as an
/// uninterrupted run if both were computed with the same ``Arithmetic``; otherwise a warning says so.
public struct DistillationRun {
    /// What a run does besides its steps.
    public struct Options {
        /// Tokens on which the student is evaluated before the first step, at checkpoints, and after the last step.
        public var evaluationTokens: [TokenSequences] = []
        /// The number of steps between checkpoints, at which the student is evaluated and saved; nil for no checkpoints.
        public var checkpointInterval: Int?
        /// The config.json that the student was read with; nil for the one beside its checkpoint.
        public var configuration: String?
        /// Whether to resume the run in the directory.
        public var resumes = false
        /// Whether to replace what an earlier run left in the directory.
        public var replaces = false
        /// Makes the pages that are saved beside the log.
        public var pages: (DistillationRun) -> [DistillationPage: String] = { _ in [:] }

        /// No evaluations and no checkpoints, in a new or empty directory.
        public init() {}
    }

    /// What a run tells its caller.
    public enum Event {
        /// A step is done.
        case step(DistillationStep)
        /// A warning for the user.
        case warning(CheckpointWarning)
    }

    /// The output directory.
    public let path: String
    /// The options of the run.
    public let options: Options
    /// The distillation that runs.
    public internal(set) var distillation: Distillation<Float>
    /// The log so far, including that from before the run was resumed.
    public internal(set) var log = DistillationLog()
    /// Warnings for the user.
    public private(set) var warnings: [CheckpointWarning] = []
    /// Whether the directory holds what this run wrote or may replace.
    var ownsDirectory: Bool

    /// A run before its first step.
    ///
    /// - Parameters:
    ///   - distillation: a distillation before its first step.
    ///   - path: the output directory, which is written when the run is saved.
    ///   - options: what the run does besides its steps.
    /// - Throws: ``CheckpointError``: `unsupported` if a step needs more memory than the machine has, `malformed` if a held-out
    ///   token is outside the vocabulary, `cannotCreate` if the directory holds an unfinished run or files that no run wrote.
    public init(
        _ distillation: Distillation<Float>, in path: String, _ options: Options = Options()
    ) throws(CheckpointError) {
        for tokens in options.evaluationTokens { try tokens.check(vocabulary: distillation.teacher.vocabulary) }
        try distillation.checkMemory(atMost: physicalMemory())
        ownsDirectory = options.resumes || options.replaces
        try Self.checkDirectory(path, replaces: ownsDirectory)
        (self.distillation, self.path, self.options) = (distillation, path, options)
    }

    /// Does all remaining steps and evaluations, and saves the run.
    ///
    /// - Parameters:
    ///   - kernels: the kernels to use.
    ///   - progress: can cancel the work; what was trained is then saved.
    ///   - notify: is told of steps and warnings.
    /// - Throws: ``CheckpointError``: `cancelled`; `notFound`, `malformed` or `unsupported` if the run to resume is missing,
    ///   cannot be read or had other settings or inputs; what ``Distillation/next(_:progress:)`` throws; what evaluations throw,
    ///   after which what was trained is saved; `cannotCreate` or `inputOutput` if the run cannot be saved.
    public mutating func finish(
        _ kernels: Kernels<Float>, progress: WorkProgress = WorkProgress(), notify: (Event) -> Void = { _ in }
    ) throws(CheckpointError) {
        try finish(kernels, Arithmetic(kernels), progress: progress, notify: notify)
    }

    /// The same, but records `arithmetic` instead of that of `kernels`.
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

    /// Records the arithmetic of the next steps, and warns if that of earlier ones gives other bytes.
    private mutating func note(_ arithmetic: Arithmetic, _ notify: (Event) -> Void) {
        if let other = log.arithmetics.first(where: { !$0.givesSameBytes(as: arithmetic) }) {
            let warning = CheckpointWarning(
                path: path,
                "the run was computed with \(other.text) and is resumed with \(arithmetic.text): its bytes will differ from those of an uninterrupted run"
            )
            warnings.append(warning)
            notify(.warning(warning))
        }
        if !(log.arithmetics.last?.givesSameBytes(as: arithmetic) ?? false) { log.add(arithmetic) }
    }

    /// Evaluates the student on all held-out tokens on which it was not yet evaluated after this step.
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

    /// Saves the unfinished run, unless no step is done.
    private mutating func saveUnfinished(_ inputs: InputDigests) throws(CheckpointError) {
        if distillation.step > 0 { try save(inputs, isComplete: false) }
    }
}
