public import Bytes
public import LayerPlanning
import ModelFamilies

/// The text report of the command `plan`.
public struct PlanReport: Sendable {
    private let plan: LayerPlan
    private let path: String
    private let context: Int

    /// Creates a report on the plan for the teacher at `path`.
    ///
    /// The report states memory requirements for a context of `context` tokens.
    public init(_ plan: LayerPlan, path: String, context: Int) {
        self.plan = plan
        self.path = path
        self.context = context
    }

    /// Writes the report as text.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
        let kinds = plan.layers.map(\.kind)
        output.write(
            "\(path.printable()): \(plan.teacher.family) to \(plan.target), \(countText(kinds.count, "layer"))\n\n")
        output.write("  \(kinds.strip)  \(kinds.counts)\n\n")
        writeLayers(to: &output)
        writeDropped(to: &output)
        writeCosts(to: &output)
        writeChart(to: &output)
        writeChoices(to: &output)
        try output.finish()
    }

    private func writeLayers(to output: inout ByteOutput) {
        var table = TextTable([("layer", .right), ("kind", .left), ("why", .left)])
        for layer in plan.attentionLayers {
            table.append("\(layer)")
            table.append(plan.layers[layer].kind.rawValue)
            table.append(plan.layers[layer].reason.printable(limit: 200))
        }
        if plan.attentionLayers.isEmpty {
            output.write("no layer stays attention\n\n")
        } else {
            table.write(to: &output)
            output.write("\n")
        }
    }

    private func writeDropped(to output: inout ByteOutput) {
        guard !plan.dropped.isEmpty else { return }
        output.write("time mixing changes\n")
        for feature in plan.dropped {
            let layers = feature.layers.map(String.init).joined(separator: ", ")
            output.write(
                "  \(feature.outcome) (\(feature.layers.count == 1 ? "layer" : "layers") \(layers.printable(limit: 200)))\n"
            )
        }
        output.write("\n")
    }

    private func writeCosts(to output: inout ByteOutput) {
        var table = TextTable([("", .left), ("teacher", .right), ("student", .right), ("", .left)])
        func row(_ title: String, _ teacher: String, _ student: String, _ note: String = "") {
            for cell in [title, teacher, student, note] { table.append(cell) }
        }
        let (before, after) = (plan.teacherMemory, plan.studentMemory)
        let ratio = Double(before.cacheBytesPerToken) / Double(after.cacheBytesPerToken)
        row("parameters", countText(plan.teacherParameterCount), countText(plan.studentParameterCount))
        row(
            "KV cache per token (bf16)", "\(countText(before.cacheBytesPerToken)) B",
            "\(countText(after.cacheBytesPerToken)) B",
            after.cacheBytesPerToken > 0 && ratio >= 1.5 ? "reduced to 1/\(Int(ratio.rounded()))" : "")
        row("state (fp32)", byteText(before.stateBytes), byteText(after.stateBytes))
        row(
            "both at \(countText(context)) tokens", byteText(before.bytes(context: context)),
            byteText(after.bytes(context: context)))
        table.write(to: &output)
    }

    /// Writes a chart of the memory that the teacher and the student need for cache and state at several context
    /// lengths.
    private func writeChart(to output: inout ByteOutput) {
        let (before, after) = (plan.teacherMemory, plan.studentMemory)
        guard before.bytes(context: 1) > 0 else { return }
        output.write("\ncache and state by context length: █ student, ░ teacher\n")
        var table = TextTable([("tokens", .right), ("teacher", .right), ("student", .right), ("", .left)])
        let width = 48
        for context in [1024, 4096, 16384, 65536, 262_144, 1_048_576] {
            let (teacher, student) = (before.bytes(context: context), after.bytes(context: context))
            let most = Double(max(teacher, student))
            func length(_ bytes: Int) -> Int { Int((Double(bytes) / most * Double(width)).rounded()) }
            let own = max(1, length(student))
            table.append(countText(context))
            table.append(byteText(teacher))
            table.append(byteText(student))
            table.append(
                String(repeating: "█", count: own) + String(repeating: "░", count: max(0, length(teacher) - own)))
        }
        table.write(to: &output)
    }

    private func writeChoices(to output: inout ByteOutput) {
        let switches = plan.switches
        let ranks = ModelDimension.ranks.compactMap { dimension in
            plan.ranks[dimension].map { "\(dimension.key) \($0)" }
        }
        output.write("\nranks       \(ranks.joined(separator: ", "))\n")
        let scaling = switches.usesTeachersScaling ? "with the teacher's scaling" : "without scaling"
        let choices = [
            "attention RoPE \(switches.attentionUsesRoPE ? "on" : "off")",
            "time mixing RoPE \(switches.timeMixingUsesRoPE ? scaling : "off")",
            "first values from \(switches.firstValues == .firstTimeMixing ? "the first time-mixing layer" : "layer 0")",
            "head norms \(switches.normalisesHeads ? "on" : "off")",
        ]
        output.write("switches    \(choices.joined(separator: ", "))\n")
        output.write("seed        \(plan.seed)\n")
    }
}
