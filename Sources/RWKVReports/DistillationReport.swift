public import Bytes
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
import ModelFamilies
import RWKVInference
public import RWKVDistillation
import RWKVNumerics

/// The report of the command `distill`.
public struct DistillationReport: Sendable {
    let variant: String
    let stage: Int
    let settings: (steps: Int, batch: Int, context: Int, accumulate: Int)
    private let trained: (tensors: Int, parameters: Int)
    let paths: (teacher: String, student: String, output: String)
    /// The teacher's name.
    let teacherName: String
    /// The kinds of the student's layers.
    let kinds: [LayerKind]
    private let warnings: [CheckpointWarning]
    /// The settings of the run on one line, without its models and tokens.
    let settingsText: String
    let log: DistillationLog

    /// Creates a report on a run.
    ///
    /// - Parameters:
    ///   - run: the run, with its log so far.
    ///   - teacher: the path of the teacher.
    ///   - student: the path of the student before the run.
    ///   - warnings: warnings about the inputs.
    public init(_ run: DistillationRun, teacher: String, student: String, warnings: [CheckpointWarning]) {
        let distillation = run.distillation
        variant = distillation.student.model.description.name
        kinds = distillation.student.model.description.kinds
        teacherName = distillation.teacher.description.name
        stage = if case .alignment = distillation.settings.stage { 1 } else { 2 }
        let own = distillation.settings
        settings = (own.steps, own.batch, own.context, own.accumulate)
        settingsText = own.text
        let parameters = distillation.student.parameters
        trained = (parameters.count, parameters.reduce(0) { $0 + $1.values.count })
        paths = (teacher, student, run.path)
        log = run.log
        self.warnings = warnings + run.warnings
    }

    private var seconds: Double { log.steps.reduce(0) { $0 + $1.seconds } }
    private var tokens: Int { log.steps.last?.tokens ?? 0 }
    private var tokensPerSecond: Double? { seconds > 0 ? Double(tokens) / seconds : nil }
    private var steps: (first: DistillationStep, last: DistillationStep)? {
        guard let first = log.steps.first, let last = log.steps.last else { return nil }
        return (first.figures, last.figures)
    }

    /// Writes the report as a JSON document that conforms to schemas/distill.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", "rwkv-ckpt/distill/1")
            json.member("teacher", paths.teacher)
            json.member("student", paths.student)
            json.member("output", paths.output)
            json.member("model", variant)
            json.member("stage", stage)
            json.object("trained", onOneLine: true) { json in
                json.member("tensors", trained.tensors)
                json.member("parameters", trained.parameters)
            }
            json.member("steps", settings.steps)
            json.member("steps_done", log.steps.count)
            json.member("steps_skipped", log.skipped)
            json.member("tokens", tokens)
            json.member("seconds", seconds)
            json.member("tokens_per_second", tokensPerSecond)
            if let arithmetic = log.arithmetics.last {
                json.object("arithmetic", onOneLine: true) { $0.members(of: arithmetic) }
            }
            json.object("loss", onOneLine: true) { json in
                json.member("first", steps?.first.loss)
                json.member("last", steps?.last.loss)
            }
            json.array("layers", of: zip(steps?.first.layers ?? [], steps?.last.layers ?? [])) { json, layer in
                let (first, last) = layer
                json.member("index", last.layer)
                json.object("relative_error") { json in
                    json.member("first", first.relativeError)
                    json.member("last", last.relativeError)
                }
                json.member("cosine", last.cosine)
                json.member("scale", last.scale)
            }
            json.array("held_out", of: log.evaluations) { $0.members(of: $1) }
            json.member("warnings", of: warnings)
        }
    }

    /// Writes the report as text.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
        for line in headlines { output.write(line + "\n") }
        for (titles, rows) in [(lossTitles, lossRows), (Self.evaluationTitles, evaluationRows)] where !rows.isEmpty {
            output.write("\n")
            var table = TextTable(titles.enumerated().map { ($1, $0 == 0 ? .left : .right) })
            for cell in rows.joined() { table.append(cell) }
            table.write(to: &output)
        }
        try output.finish()
    }

    /// The lines above the tables: settings, trained weights, speed and skipped steps.
    private var headlines: [String] {
        ["\(paths.output.printable()): \(variant), stage \(stage), \(stepsText)", "trained \(trainedText)"]
            + (skippedText.map { [$0] } ?? [])
    }

    /// The number of steps, and the tokens of each.
    var stepsText: String {
        let size = "\(countText(settings.batch * settings.accumulate)) x \(countText(settings.context)) tokens"
        return "\(countText(settings.steps, "step")) of \(size)"
    }

    /// The trained weights, and the speed if it is known.
    var trainedText: String {
        let weights = "\(countText(trained.tensors, "tensor")) with \(countText(trained.parameters, "parameter"))"
        guard let tokensPerSecond else { return weights }
        let speed = countText(Int(exactly: tokensPerSecond.rounded(.down)) ?? .max)
        return "\(weights), \(formatted(seconds, "%.1f")) s, \(speed) tokens/s"
    }

    /// How many steps were skipped; nil if none.
    var skippedText: String? {
        log.skipped > 0 ? "\(countText(log.skipped, "step")) skipped because gradients were not finite" : nil
    }

    /// The column titles of ``lossRows``.
    var lossTitles: [String] {
        ["", "first", "last"] + (steps?.last.layers.isEmpty == false ? ["cosine", "scale"] : [])
    }
    /// The column titles of ``evaluationRows``.
    static let evaluationTitles = ["held out", "step", "KL", "top-1", "recall"]

    /// The rows of the table of losses.
    ///
    /// The first row has the loss at the first and last steps. It is followed by a row for each layer, with its
    /// relative error at these steps, and its cosine and scale at the last step.
    var lossRows: [[String]] {
        guard let steps else { return [] }
        let layers = zip(steps.first.layers, steps.last.layers).map { first, last in
            [
                "layer \(last.layer)", shortText(first.relativeError), shortText(last.relativeError),
                formatted(last.cosine, "%.3f"), formatted(last.scale, "%.3f"),
            ]
        }
        let loss = ["loss", shortText(steps.first.loss), shortText(steps.last.loss)]
        return [loss + lossTitles.dropFirst(loss.count).map { _ in "" }] + layers
    }

    /// The rows of the table of evaluations on held-out tokens.
    var evaluationRows: [[String]] {
        log.evaluations.map { evaluation in
            [
                evaluation.path.printable(), countText(evaluation.step), shortText(evaluation.figures.divergence),
                formatted(evaluation.figures.agreement, "%.3f"),
                evaluation.figures.recall.accuracy.map { formatted($0, "%.3f") } ?? "-",
            ]
        }
    }
}
