public import Bytes
import CheckpointFiles
package import CheckpointJSON

/// The log of a run: a line of JSON for each step, for each evaluation on held-out tokens, and for the arithmetic at
/// the start and at each change (schemas/distill-log.schema.json).
public struct DistillationLog: Sendable, Hashable {
    /// A logged step.
    public struct Step: Sendable, Hashable {
        /// The figures of the step.
        public internal(set) var figures: DistillationStep
        /// The number of training tokens so far, including this step.
        public internal(set) var tokens: Int
        /// The wall-clock seconds that the step took.
        public internal(set) var seconds: Double
        /// The number of steps so far that changed no weight because their gradients were not finite.
        public internal(set) var skipped: Int
    }

    /// An evaluation on held-out tokens.
    public struct Evaluation: Sendable, Hashable {
        /// The number of steps completed before the evaluation.
        public internal(set) var step: Int
        /// The path of the held-out tokens.
        public internal(set) var path: String
        /// The results of the evaluation.
        public internal(set) var figures: HeldOut
    }

    /// All logged steps, in order.
    public private(set) var steps: [Step] = []
    /// All logged evaluations, in order.
    public private(set) var evaluations: [Evaluation] = []
    /// The arithmetic used to compute the steps, in order; the last entry is the current one.
    public private(set) var arithmetics: [Arithmetic] = []
    /// The log file's contents.
    public private(set) var bytes: [UInt8] = []

    /// The number of steps that changed no weight because their gradients were not finite.
    public var skipped: Int { steps.last?.skipped ?? 0 }

    /// The maximum size of a log in bytes, enough for about a hundred thousand steps of a large model.
    private static let maximumBytes = 1 << 30

    /// Creates an empty log.
    public init() {}

    /// Reads a saved log in order to continue it.
    ///
    /// - Throws: `CheckpointError`: `notFound`, `inputOutput`, or `malformed` if the file is too long or a line is
    ///   not a valid log entry.
    public init(contentsOf path: String) throws(CheckpointError) {
        let file = try FileSource(path: path)
        guard file.count <= Self.maximumBytes else {
            throw CheckpointError(
                .malformed, path: path, "the file is too long for a distillation log",
                expected: "at most \(Self.maximumBytes) bytes", found: "\(file.count)")
        }
        bytes = try file.bytes(0..<file.count)
        var start = 0
        while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
            guard (try? add(line: JSONValue(document: Array(bytes[start..<end])))) == true else {
                throw CheckpointError(
                    .malformed, path: path, "a line is not an entry of a distillation log", offset: start)
            }
            start = end + 1
        }
        guard start == bytes.count else {
            throw CheckpointError(.malformed, path: path, "the last line does not end with a newline", offset: start)
        }
    }

    /// Adds the entry that a line describes.
    ///
    /// - Returns: whether the entry is consistent with the entries before it; it is added in either case.
    /// - Throws: `JSONMismatch` if the line describes no entry.
    private mutating func add(line: JSONValue) throws -> Bool {
        if line["loss"] != nil {
            let step = try Step(line)
            let skipped = skipped + (step.figures.gradientNorm.isFinite ? 0 : 1)
            steps.append(step)
            return step.skipped == skipped && step.figures.number == steps.count && step.tokens > 0 && step.seconds >= 0
                && step.figures.layers.allSatisfy { 0..<1 << 16 ~= $0.layer }
        }
        if line["path"] != nil {
            let evaluation = try Evaluation(line)
            evaluations.append(evaluation)
            return evaluation.step == steps.count && !evaluation.figures.divergence.isNaN
        }
        let entry = try ArithmeticEntry(line)
        arithmetics.append(entry.arithmetic)
        return entry.step == steps.count
    }

    /// Appends a step to the log.
    ///
    /// - Parameters:
    ///   - step: the figures of the step.
    ///   - tokens: the number of tokens per step.
    ///   - seconds: the wall-clock seconds that the step took.
    public mutating func add(_ step: DistillationStep, tokens: Int, seconds: Double) {
        steps.append(
            Step(
                figures: step, tokens: step.number * tokens, seconds: seconds,
                skipped: skipped + (step.gradientNorm.isFinite ? 0 : 1)))
        write(steps[steps.count - 1])
    }

    /// Appends an evaluation of the student after the steps so far.
    ///
    /// - Parameters:
    ///   - figures: the results.
    ///   - path: the path of the held-out tokens.
    public mutating func add(_ figures: HeldOut, path: String) {
        let evaluation = Evaluation(step: steps.count, path: path, figures: figures)
        evaluations.append(evaluation)
        write(evaluation)
    }

    /// Appends the arithmetic of the next steps.
    public mutating func add(_ arithmetic: Arithmetic) {
        arithmetics.append(arithmetic)
        write(ArithmeticEntry(step: steps.count, arithmetic: arithmetic))
    }

    private mutating func write(_ entry: some JSONRecord) {
        // Writing to memory cannot fail.
        bytes +=
            (try? ByteOutput.bytes { output in
                try JSONWriter.document(to: output, onOneLine: true) { $0.members(of: entry) }
            }) ?? []
    }
}

// MARK: Entries

extension DistillationLog.Step: JSONRecord {
    package init() {
        self.init(
            figures: DistillationStep(number: 0, loss: 0, layers: [], rate: 0, gradientNorm: 0), tokens: 0, seconds: 0,
            skipped: 0)
    }

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("step", &figures.number)
        members.member("loss", &figures.loss)
        members.member("learning_rate", &figures.rate)
        members.member("gradient_norm", &figures.gradientNorm)
        members.member("tokens", &tokens)
        members.member("seconds", &seconds)
        members.member("skipped", &skipped)
        members.array("layers", ifPresent: false, &figures.layers)
    }
}

extension Alignment.LayerFigures: JSONRecord {
    package init() {
        self.init(layer: 0, loss: 0, meanSquaredError: 0, relativeError: 0, cosine: 0, scale: 0)
    }

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("index", &layer)
        members.member("loss", &loss)
        members.member("mean_squared_error", &meanSquaredError)
        members.member("relative_error", &relativeError)
        members.member("cosine", &cosine)
        members.member("scale", &scale)
    }
}

extension DistillationLog.Evaluation: JSONRecord {
    package init() {
        self.init(
            step: 0, path: "",
            figures: HeldOut(
                tokenCount: 0, divergence: 0, agreement: 0, recall: .init(count: 0, teacher: 0, student: 0, both: 0)))
    }

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("step", &step)
        members.member("path", &path)
        members.member("tokens", &figures.tokenCount)
        members.member("kl", &figures.divergence)
        members.member("top1", &figures.agreement)
        members.object("recall", onOneLine: true) {
            $0.member("queries", &figures.recall.count)
            $0.member("teacher", &figures.recall.teacher)
            $0.member("student", &figures.recall.student)
            $0.member("both", &figures.recall.both)
            var accuracy = figures.recall.accuracy
            $0.member("accuracy", &accuracy)
        }
    }
}

/// An entry before the first step, or at a point where the run was resumed with arithmetic that gives different bytes.
package struct ArithmeticEntry: JSONRecord {
    /// The number of steps before the entry.
    var step = 0
    var arithmetic = Arithmetic()

    package init() {}

    init(step: Int, arithmetic: Arithmetic) { (self.step, self.arithmetic) = (step, arithmetic) }

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("step", &step)
        members.object("arithmetic", onOneLine: true) { arithmetic.describe(to: &$0) }
    }
}
