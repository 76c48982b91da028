public import Bytes
public import LayerPlanning
import ModelFamilies

/// The report that the `plan` command prints as text or writes as an HTML page.
public struct PlanReport: Sendable {
    let plan: LayerPlan
    let path: String
    let context: Int

    /// Creates a report on the plan for the teacher at `path`.
    ///
    /// The report states memory requirements for a context of `context` tokens.
    public init(_ plan: LayerPlan, path: String, context: Int) {
        self.plan = plan
        self.path = path
        self.context = context
    }

    /// The kinds of the student's layers.
    var kinds: [LayerKind] { plan.layers.map(\.kind) }

    /// Writes the report as text.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
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
        for cell in attentionRows.joined() { table.append(cell) }
        if plan.attentionLayers.isEmpty {
            output.write("no layer keeps attention\n\n")
        } else {
            table.write(to: &output)
            output.write("\n")
        }
    }

    /// The layers that keep attention, each with its index, its kind and the reason.
    var attentionRows: [[String]] {
        plan.attentionLayers.map { layer in
            ["\(layer)", plan.layers[layer].kind.rawValue, plan.layers[layer].reason.printable(limit: 200)]
        }
    }

    private func writeDropped(to output: inout ByteOutput) {
        guard !plan.dropped.isEmpty else { return }
        output.write("time mixing changes\n")
        for text in droppedTexts { output.write("  \(text)\n") }
        output.write("\n")
    }

    /// What time mixing drops or expresses differently, with the layers concerned.
    var droppedTexts: [String] {
        plan.dropped.map { feature in
            let layers = feature.layers.map(String.init).joined(separator: ", ")
            return
                "\(feature.outcome) (\(feature.layers.count == 1 ? "layer" : "layers") \(layers.printable(limit: 200)))"
        }
    }

    private func writeCosts(to output: inout ByteOutput) {
        var table = TextTable([("", .left), ("teacher", .right), ("student", .right), ("", .left)])
        for cell in costRows.joined() { table.append(cell) }
        table.write(to: &output)
    }

    /// The rows of the cost table, each with a title, the teacher's cost, the student's cost, and a note.
    var costRows: [[String]] {
        let (before, after) = (plan.teacherMemory, plan.studentMemory)
        let ratio = Double(before.cacheBytesPerToken) / Double(after.cacheBytesPerToken)
        return [
            ["parameters", countText(plan.teacherParameterCount), countText(plan.studentParameterCount), ""],
            [
                "KV cache per token (bf16)", "\(countText(before.cacheBytesPerToken)) B",
                "\(countText(after.cacheBytesPerToken)) B",
                after.cacheBytesPerToken > 0 && ratio >= 1.5 ? "reduced to 1/\(Int(ratio.rounded()))" : "",
            ],
            ["state (fp32)", byteText(before.stateBytes), byteText(after.stateBytes), ""],
            [
                "both at \(countText(context)) tokens", byteText(teacherBytes(context)),
                byteText(studentBytes(context)), "",
            ],
        ]
    }

    /// The context lengths, in tokens, for which the report states the memory use.
    static let contexts = [1024, 4096, 16384, 65536, 262_144, 1_048_576]

    /// Returns the size in bytes of the teacher's cache and state at a context of this many tokens.
    func teacherBytes(_ context: Int) -> Int { plan.teacherMemory.bytes(context: context) }

    /// Returns the size in bytes of the student's cache and state at a context of this many tokens.
    func studentBytes(_ context: Int) -> Int { plan.studentMemory.bytes(context: context) }

    /// Writes a chart of the memory that the teacher and the student need for cache and state at several context
    /// lengths.
    private func writeChart(to output: inout ByteOutput) {
        guard teacherBytes(1) > 0 else { return }
        output.write("\ncache and state by context length: █ student, ░ teacher\n")
        var table = TextTable([("tokens", .right), ("teacher", .right), ("student", .right), ("", .left)])
        let width = 48
        for context in Self.contexts {
            let (teacher, student) = (teacherBytes(context), studentBytes(context))
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
        output.write("\n")
        for (name, value) in choices {
            output.write(name + String(repeating: " ", count: 12 - name.count) + value + "\n")
        }
    }

    /// The ranks, the switches and the seed, each with its name.
    var choices: [(name: String, value: String)] {
        let switches = plan.switches
        let ranks = ModelDimension.ranks.compactMap { dimension in
            plan.ranks[dimension].map { "\(dimension.key) \($0)" }
        }
        let scaling = switches.usesTeachersScaling ? "with the teacher's scaling" : "without scaling"
        let target = ArchitectureRegistry.target(named: plan.target)
        let source = switches.firstValues == .firstTimeMixing ? "the first time-mixing layer" : "layer 0"
        let first = target?.timeMix?.mixesFirstValues == true ? ["first values from \(source)"] : []
        let choices =
            [
                "attention RoPE \(switches.attentionUsesRoPE ? "on" : "off")",
                "time mixing RoPE \(switches.timeMixingUsesRoPE ? scaling : "off")",
            ] + first + ["head norms \(switches.normalisesHeads ? "on" : "off")"]
        return [
            ("ranks", ranks.joined(separator: ", ")), ("switches", choices.joined(separator: ", ")),
            ("seed", "\(plan.seed)"),
        ] + (target?.conversion?.note.map { [("note", $0)] } ?? [])
    }
}
