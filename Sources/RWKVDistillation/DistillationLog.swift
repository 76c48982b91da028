public import CheckpointFiles
package import CheckpointJSON

/// The log of a run: a line of JSON for each step, for each evaluation on held-out tokens, and for the arithmetic at
/// the start and at each change (schemas/distill-log.schema.json).
public struct DistillationLog: Sendable, Hashable {
    /// A logged step.
    public struct Step: Sendable, Hashable {
        /// The figures of the step.
        public let figures: DistillationStep
        /// The number of training tokens so far, including this step.
        public let tokens: Int
        /// The wall-clock seconds that the step took.
        public let seconds: Double
    }

    /// An evaluation on held-out tokens.
    public struct Evaluation: Sendable, Hashable {
        /// The number of steps completed before the evaluation.
        public let step: Int
        /// The path of the held-out tokens.
        public let path: String
        /// The results of the evaluation.
        public let figures: HeldOut
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
    public private(set) var skipped = 0

    /// The maximum size of a log in bytes, enough for about a hundred thousand steps of a large model.
    private static let maximumBytes = 1 << 30

    /// Creates an empty log.
    public init() {}

    /// Reads a saved log in order to continue it.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed` if the file is too long or a line is
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
            var line: JSONValue?
            do throws(MalformedInput) { line = try JSONValue(document: Array(bytes[start..<end])) } catch {}
            if let step = line.flatMap(Step.init), step.figures.number == steps.count + 1 {
                steps.append(step)
                skipped += step.figures.gradientNorm.isFinite ? 0 : 1
            } else if let evaluation = line.flatMap(Evaluation.init), evaluation.step == steps.count {
                evaluations.append(evaluation)
            } else if let object = line?["arithmetic"], let own = Arithmetic(object),
                line?["step"]?.integer == steps.count
            {
                arithmetics.append(own)
            } else {
                throw CheckpointError(
                    .malformed, path: path, "a line is not an entry of a distillation log", offset: start)
            }
            start = end + 1
        }
        guard start == bytes.count else {
            throw CheckpointError(.malformed, path: path, "the last line does not end with a newline", offset: start)
        }
    }

    /// Appends a step to the log.
    ///
    /// - Parameters:
    ///   - step: the figures of the step.
    ///   - tokens: the number of tokens per step.
    ///   - seconds: the wall-clock seconds that the step took.
    public mutating func add(_ step: DistillationStep, tokens: Int, seconds: Double) {
        let entry = Step(figures: step, tokens: step.number * tokens, seconds: seconds)
        steps.append(entry)
        skipped += step.gradientNorm.isFinite ? 0 : 1
        let skipped = skipped
        add { entry.write(to: &$0, skipped: skipped) }
    }

    /// Appends an evaluation of the student after the steps so far.
    ///
    /// - Parameters:
    ///   - figures: the results.
    ///   - path: the path of the held-out tokens.
    public mutating func add(_ figures: HeldOut, path: String) {
        let evaluation = Evaluation(step: steps.count, path: path, figures: figures)
        evaluations.append(evaluation)
        add { evaluation.write(to: &$0) }
    }

    /// Appends the arithmetic of the next steps.
    public mutating func add(_ arithmetic: Arithmetic) {
        arithmetics.append(arithmetic)
        let step = steps.count
        add { json in
            json.key("step")
            json.value(step)
            json.key("arithmetic")
            json.beginObject()
            arithmetic.write(to: &json)
            json.end()
        }
    }

    private mutating func add(_ members: (inout JSONWriter) -> Void) {
        // Writing to memory cannot fail.
        bytes +=
            (try? ByteOutput.bytes { output in
                var json = JSONWriter(output)
                json.beginObject(onOneLine: true)
                members(&json)
                json.end()
                try json.finish()
            }) ?? []
    }
}

extension DistillationLog.Step {
    fileprivate func write(to json: inout JSONWriter, skipped: Int) {
        json.key("step")
        json.value(figures.number)
        json.key("loss")
        json.value(figures.loss)
        json.key("learning_rate")
        json.value(figures.rate)
        json.key("gradient_norm")
        json.value(figures.gradientNorm)
        json.key("tokens")
        json.value(tokens)
        json.key("seconds")
        json.value(seconds)
        json.key("skipped")
        json.value(skipped)
        json.key("layers")
        json.beginArray()
        for layer in figures.layers {
            json.beginObject()
            json.key("index")
            json.value(layer.layer)
            json.key("loss")
            json.value(layer.loss)
            json.key("mean_squared_error")
            json.value(layer.meanSquaredError)
            json.key("relative_error")
            json.value(layer.relativeError)
            json.key("cosine")
            json.value(layer.cosine)
            json.key("scale")
            json.value(layer.scale)
            json.end()
        }
        json.end()
    }

    fileprivate init?(_ line: JSONValue) {
        guard let number = line["step"]?.integer, let loss = line["loss"]?.figure,
            let rate = line["learning_rate"]?.figure, let norm = line["gradient_norm"]?.figure,
            let tokens = line["tokens"]?.integer, tokens > 0, let seconds = line["seconds"]?.double, seconds >= 0,
            let members = line["layers"]?.array
        else { return nil }
        let layers = members.compactMap { layer -> Alignment.LayerFigures? in
            guard let index = layer["index"]?.integer, 0..<1 << 16 ~= index, let loss = layer["loss"]?.figure,
                let squares = layer["mean_squared_error"]?.figure, let error = layer["relative_error"]?.figure,
                let cosine = layer["cosine"]?.figure, let scale = layer["scale"]?.figure
            else { return nil }
            return .init(
                layer: index, loss: loss, meanSquaredError: squares, relativeError: error, cosine: cosine, scale: scale)
        }
        guard layers.count == members.count else { return nil }
        figures = .init(number: number, loss: loss, layers: layers, rate: rate, gradientNorm: norm)
        (self.tokens, self.seconds) = (tokens, seconds)
    }
}

extension DistillationLog.Evaluation {
    /// Writes the evaluation as members of a JSON object.
    package func write(to json: inout JSONWriter) {
        json.key("step")
        json.value(step)
        json.key("path")
        json.value(path)
        json.key("tokens")
        json.value(figures.tokenCount)
        json.key("kl")
        json.value(figures.divergence)
        json.key("top1")
        json.value(figures.agreement)
        json.key("recall")
        json.beginObject()
        json.key("queries")
        json.value(figures.recall.count)
        json.key("teacher")
        json.value(figures.recall.teacher)
        json.key("student")
        json.value(figures.recall.student)
        json.key("both")
        json.value(figures.recall.both)
        json.key("accuracy")
        json.value(figures.recall.accuracy)
        json.end()
    }

    fileprivate init?(_ line: JSONValue) {
        guard let step = line["step"]?.integer, let path = line["path"]?.string, let tokens = line["tokens"]?.integer,
            let divergence = line["kl"]?.double, let agreement = line["top1"]?.figure, let recall = line["recall"],
            let queries = recall["queries"]?.integer, let teacher = recall["teacher"]?.integer,
            let student = recall["student"]?.integer, let both = recall["both"]?.integer
        else { return nil }
        figures = HeldOut(
            tokenCount: tokens, divergence: divergence, agreement: agreement,
            recall: .init(count: queries, teacher: teacher, student: student, both: both))
        (self.step, self.path) = (step, path.text)
    }
}

extension JSONValue {
    /// The number as a double; NaN for null, which represents a non-finite number.
    fileprivate var figure: Double? { self == .null ? .nan : double }
}
