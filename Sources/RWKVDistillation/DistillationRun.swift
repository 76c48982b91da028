public import CheckpointFiles
import RWKVInference
public import RWKVNumerics

/// A distillation in its directory: evaluated, trained to its end, and saved, so that it can be interrupted and resumed.
///
///     let student = try Checkpoint.open("student")
///     var run = try DistillationRun(Distillation(teacher, student, description, tokens, settings), in: "aligned")
///     try run.finish(kernels, progress: progress)
///
/// Cancelled through its progress, it saves what it has. To resume, make the distillation again, with the same settings, teacher and
/// tokens, of the student in the directory, and set ``Options/resumes``. The end has the same bytes as that of a run that was not
/// interrupted, where both were computed with the same ``Arithmetic``; where not, a warning says so.
public struct DistillationRun {
    /// What a run does beside its steps.
    public struct Options {
        /// Tokens on which the student is evaluated before the first step, at checkpoints, and after the last step.
        public var evaluationTokens: [TokenSequences] = []
        /// How many steps there are between checkpoints, at which the student is evaluated and saved; nil for none.
        public var checkpointInterval: Int?
        /// The config.json that the student was read with; nil for the one beside it.
        public var configuration: String?
        /// Whether to resume the run in the directory.
        public var resumes = false
        /// Whether to replace what an earlier run left in the directory.
        public var replaces = false
        /// Makes what is saved for people beside the log.
        public var pages: (DistillationRun) -> [DistillationPage: String] = { _ in [:] }

        /// No evaluation and no checkpoint, in a directory of its own.
        public init() {}
    }

    /// What happens in a run.
    public enum Event {
        /// A step was done.
        case step(DistillationStep)
        /// There is something that the user should know.
        case warning(CheckpointWarning)
    }

    /// The directory.
    public let path: String
    /// What is done in it.
    public let options: Options
    /// The student, its teacher and the steps.
    public internal(set) var distillation: Distillation<Float>
    /// What happened so far, also before it was resumed.
    public internal(set) var log = DistillationLog()
    /// What the user should know.
    public private(set) var warnings: [CheckpointWarning] = []
    /// Whether the directory holds what this run wrote, or may replace.
    var ownsDirectory: Bool

    /// A run that has not begun.
    ///
    /// - Parameters:
    ///   - distillation: that has done no step.
    ///   - path: of the directory, which is written when the run is saved.
    ///   - options: what it does beside its steps.
    /// - Throws: ``CheckpointError``: `unsupported` where a step takes more memory than the machine has, `malformed` where tokens are
    ///   outside of the vocabulary, `cannotCreate` where the directory holds an unfinished run, or what no run wrote.
    public init(
        _ distillation: Distillation<Float>, in path: String, _ options: Options = Options()
    ) throws(CheckpointError) {
        for tokens in options.evaluationTokens { try tokens.check(vocabulary: distillation.teacher.vocabulary) }
        try distillation.checkMemory(atMost: physicalMemory())
        ownsDirectory = options.resumes || options.replaces
        try Self.checkDirectory(path, replaces: ownsDirectory)
        (self.distillation, self.path, self.options) = (distillation, path, options)
    }

    /// Does all that is left to do.
    ///
    /// - Parameters:
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work; what was trained is saved then.
    ///   - notify: is told what happens.
    /// - Throws: ``CheckpointError``: `cancelled`; `notFound`, `malformed` or `unsupported` where there is no run to resume, or it
    ///   cannot be read, or had other settings or inputs; as ``Distillation/next(_:progress:)`` and evaluations do, after which what was
    ///   trained is saved; `cannotCreate` or `inputOutput` where it cannot be saved.
    public mutating func finish(
        _ kernels: Kernels<Float>, progress: WorkProgress = WorkProgress(), notify: (Event) -> Void = { _ in }
    ) throws(CheckpointError) {
        try finish(kernels, Arithmetic(kernels), progress: progress, notify: notify)
    }

    /// The same with another name for what it is computed with.
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

    /// Records what the next steps are computed with, and warns where earlier ones were computed with something else.
    private mutating func note(_ arithmetic: Arithmetic, _ notify: (Event) -> Void) {
        if let other = log.arithmetics.first(where: { !$0.givesSameBytes(as: arithmetic) }) {
            let warning = CheckpointWarning(
                path: path,
                "the run was computed with \(other.text), and is resumed with \(arithmetic.text): its bytes will differ from those of a run that was not interrupted"
            )
            warnings.append(warning)
            notify(.warning(warning))
        }
        if !(log.arithmetics.last?.givesSameBytes(as: arithmetic) ?? false) { log.add(arithmetic) }
    }

    /// Evaluates the student on all tokens on which it was not yet evaluated as it is.
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

    /// Keeps what was trained, where that is more than nothing.
    private mutating func saveUnfinished(_ inputs: InputDigests) throws(CheckpointError) {
        if distillation.step > 0 { try save(inputs, isComplete: false) }
    }
}
