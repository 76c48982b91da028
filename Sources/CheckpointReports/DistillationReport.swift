public import CheckpointFiles
public import CheckpointJSON
import ModelFamilies
import RWKVInference
public import RWKVDistillation
public import RWKVNumerics

/// What `distill` says.
public struct DistillationReport: Sendable {
    private let variant: String
    private let stage: Int
    private let settings: (steps: Int, batch: Int, context: Int, accumulate: Int)
    private let trained: (tensors: Int, parameters: Int)
    private let paths: (teacher: String, student: String, output: String)
    private let warnings: [CheckpointWarning]
    private var steps: (first: Distillation<Float>.Step, last: Distillation<Float>.Step)?
    private var stepCount = 0
    private var skipped = 0
    private var seconds = 0.0
    private var heldOut: [(step: Int, path: String, figures: HeldOut)] = []

    /// A report on a run that has not begun, or is to go on.
    public init(
        _ distillation: Distillation<Float>, teacher: String, student: String, output: String,
        warnings: [CheckpointWarning]
    ) {
        variant = distillation.student.model.description.name
        stage = if case .alignment = distillation.settings.stage { 1 } else { 2 }
        let own = distillation.settings
        settings = (own.steps, own.batch, own.context, own.accumulate)
        let parameters = distillation.student.parameters
        trained = (parameters.count, parameters.reduce(0) { $0 + $1.values.count })
        paths = (teacher, student, output)
        self.warnings = warnings
    }

    /// Adds a step.
    ///
    /// - Parameters:
    ///   - step: what it was.
    ///   - seconds: by the clock that it took.
    public mutating func add(_ step: Distillation<Float>.Step, seconds: Double) {
        steps = (steps?.first ?? step, step)
        stepCount += 1
        skipped += step.gradientNorm.isFinite ? 0 : 1
        self.seconds += seconds
    }

    /// Adds a look at held-out tokens.
    ///
    /// - Parameters:
    ///   - figures: what was seen.
    ///   - step: behind which step.
    ///   - path: of the tokens.
    public mutating func add(_ figures: HeldOut, behind step: Int, path: String) {
        heldOut.append((step, path, figures))
    }

    private var tokens: Int { stepCount * settings.batch * settings.context * settings.accumulate }
    private var tokensPerSecond: Double? { seconds > 0 ? Double(tokens) / seconds : nil }

    /// Writes the report as one document, described by schemas/distill.schema.json.
    ///
    /// - Throws: what the output throws.
    public func writeJSON(to output: consuming ByteOutput) throws {
        var json = JSONWriter(output)
        json.beginObject()
        json.key("schema")
        json.value("rwkv-ckpt/distill/1")
        json.key("teacher")
        json.value(paths.teacher)
        json.key("student")
        json.value(paths.student)
        json.key("output")
        json.value(paths.output)
        json.key("model")
        json.value(variant)
        json.key("stage")
        json.value(stage)
        json.key("trained")
        json.beginObject(onOneLine: true)
        json.key("tensors")
        json.value(trained.tensors)
        json.key("parameters")
        json.value(trained.parameters)
        json.end()
        json.key("steps")
        json.value(settings.steps)
        json.key("steps_done")
        json.value(stepCount)
        json.key("steps_skipped")
        json.value(skipped)
        json.key("tokens")
        json.value(tokens)
        json.key("seconds")
        json.value(seconds)
        json.key("tokens_per_second")
        json.value(tokensPerSecond)
        json.key("loss")
        json.beginObject(onOneLine: true)
        json.key("first")
        json.value(steps?.first.loss)
        json.key("last")
        json.value(steps?.last.loss)
        json.end()
        json.key("layers")
        json.beginArray()
        for (first, last) in zip(steps?.first.layers ?? [], steps?.last.layers ?? []) {
            json.beginObject(onOneLine: true)
            json.key("index")
            json.value(last.layer)
            json.key("relative_error")
            json.beginObject()
            json.key("first")
            json.value(first.relativeError)
            json.key("last")
            json.value(last.relativeError)
            json.end()
            json.key("cosine")
            json.value(last.cosine)
            json.key("scale")
            json.value(last.scale)
            json.end()
        }
        json.end()
        json.key("held_out")
        json.beginArray()
        for look in heldOut {
            json.beginObject(onOneLine: true)
            json.key("step")
            json.value(look.step)
            json.key("path")
            json.value(look.path)
            json.key("tokens")
            json.value(look.figures.tokenCount)
            json.key("kl")
            json.value(look.figures.divergence)
            json.key("top1")
            json.value(look.figures.agreement)
            json.key("recall")
            json.value(look.figures.recall.accuracy)
            json.end()
        }
        json.end()
        json.write(warnings)
        json.end()
        try json.finish()
    }

    /// Writes the report for people.
    ///
    /// - Throws: what the output throws.
    public func writeText(to output: consuming ByteOutput) throws {
        let size = "\(countText(settings.batch * settings.accumulate)) x \(countText(settings.context)) tokens"
        output.write(
            "\(paths.output.printable()): \(variant), stage \(stage), \(countText(settings.steps, "step")) of \(size)\n"
        )
        output.write(
            "trained \(countText(trained.tensors, "tensor")) of \(countText(trained.parameters, "parameter"))")
        if let tokensPerSecond {
            output.write(", \(formatted(seconds, "%.1f")) s, \(countText(Int(tokensPerSecond))) tokens/s")
        }
        output.write("\n")
        if skipped > 0 { output.write("\(countText(skipped, "step")) skipped, as gradients were not finite\n") }
        if let steps {
            output.write("\n")
            var table = TextTable([
                ("", .left), ("first", .right), ("last", .right), ("cosine", .right), ("scale", .right),
            ])
            for cell in ["loss", shortText(steps.first.loss), shortText(steps.last.loss), "", ""] { table.append(cell) }
            for (first, last) in zip(steps.first.layers, steps.last.layers) {
                for cell in [
                    "layer \(last.layer)", shortText(first.relativeError), shortText(last.relativeError),
                    formatted(last.cosine, "%.3f"), formatted(last.scale, "%.3f"),
                ] { table.append(cell) }
            }
            table.write(to: &output)
        }
        if !heldOut.isEmpty {
            output.write("\n")
            var table = TextTable([
                ("held out", .left), ("step", .right), ("KL", .right), ("top-1", .right), ("recall", .right),
            ])
            for look in heldOut {
                for cell in [
                    look.path.printable(), countText(look.step), shortText(look.figures.divergence),
                    formatted(look.figures.agreement, "%.3f"),
                    look.figures.recall.accuracy.map { formatted($0, "%.3f") } ?? "-",
                ] { table.append(cell) }
            }
            table.write(to: &output)
        }
        try output.finish()
    }
}
