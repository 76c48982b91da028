public import CheckpointJSON
public import CheckpointFiles
import CheckpointReports
import ModelFamilies
public import RWKVEvaluation
import RWKVInference
import TokenFiles

/// The report of `verify`.
public struct VerificationReport: Sendable {
    let verification: Verification
    private let isSeeded: Bool
    private let warnings: [CheckpointWarning]

    /// Creates a report on a verification; `isSeeded` if its tokens come from a seed.
    public init(_ verification: Verification, isSeeded: Bool, warnings: [CheckpointWarning]) {
        self.verification = verification
        self.warnings = warnings
        self.isSeeded = isSeeded
    }

    private var referenceName: String {
        switch verification.reference {
        case .model(let model): model.description.name
        case .recorded: "recorded logits"
        }
    }

    // MARK: JSON

    /// Writes the report as one document, described by schemas/verify.schema.json.
    ///
    /// - Throws: any error that the output throws.
    public func writeJSON(to output: consuming ByteOutput) throws {
        var json = JSONWriter(output)
        json.beginObject()
        json.key("schema")
        json.value("rwkv-ckpt/verify/1")
        json.key("verdict")
        json.value(verification.verdict.rawValue)
        json.key("reference")
        json.beginObject(onOneLine: true)
        json.key("path")
        json.value(verification.reference.path)
        json.key("model")
        json.value(referenceName)
        json.end()
        json.key("candidate")
        json.beginObject(onOneLine: true)
        json.key("path")
        json.value(verification.candidate.checkpoint.path)
        json.key("model")
        json.value(verification.candidate.description.name)
        json.end()
        json.key("tokens")
        json.beginObject(onOneLine: true)
        json.key("sequences")
        json.value(verification.tokens.sequences.count)
        json.key("count")
        json.value(verification.tokens.count)
        json.end()
        json.write(seedOf: verification.tokens, isSeeded)
        json.key("logits")
        if let logits = verification.logits { write(logits, to: &json) } else { json.null() }
        json.key("limits")
        json.beginObject(onOneLine: true)
        json.key("precision")
        json.value(verification.path.rawValue)
        for name in VerificationLimits.names {
            json.key(text: name)
            json.value(verification.limits[name])
        }
        json.end()
        json.key("exceeded")
        json.beginArray(onOneLine: true)
        for name in verification.isReport ? [] : verification.exceeded { json.value(name) }
        json.end()
        json.key("constants")
        json.beginArray()
        for constant in verification.constants {
            json.beginObject(onOneLine: true)
            json.key("name")
            json.value(constant.name)
            json.key("reference")
            json.value(constant.reference)
            json.key("candidate")
            json.value(constant.candidate)
            json.end()
        }
        json.end()
        writeLayers(to: &json)
        json.key("first_divergence")
        if let divergence = verification.firstDivergence {
            json.beginObject(onOneLine: true)
            json.key("layer")
            if let layer = divergence.layer { json.value(layer) } else { json.null() }
            json.key("block")
            json.value(divergence.block.rawValue)
            json.key("relative_error")
            json.value(divergence.error)
            json.end()
        } else {
            json.null()
        }
        json.key("audit")
        if let audit = verification.audit {
            json.beginObject()
            json.key("path")
            json.value(audit.path)
            json.key("tensors")
            json.value(audit.tensorCount)
            json.key("copies_of_reference")
            json.value(audit.sourceCount)
            json.key("problems")
            json.beginArray()
            for problem in audit.problems { json.value(problem) }
            json.end()
            json.end()
        } else {
            json.null()
        }
        json.key("failure")
        json.value(verification.failure.map { .string(ByteString($0.description)) } ?? .null)
        json.write(warnings)
        json.end()
        try json.finish()
    }

    private func write(_ logits: LogitsAgreement, to json: inout JSONWriter) {
        json.beginObject()
        for (key, value) in [("max_abs" as StaticString, logits.maximumDifference), ("nmse", logits.nmse)] {
            json.key(key)
            json.value(value)
        }
        json.key("kl")
        json.beginObject(onOneLine: true)
        for (key, value) in [
            ("mean" as StaticString, logits.kl.mean), ("median", logits.kl.median), ("p99", logits.kl.p99),
            ("max", logits.kl.maximum),
        ] {
            json.key(key)
            json.value(value)
        }
        json.end()
        json.key("top1")
        json.value(logits.top1)
        json.key("clear_tokens")
        json.value(logits.clearCount)
        json.key("top5")
        json.value(logits.top5)
        json.key("perplexity")
        if let perplexity = logits.perplexity {
            json.beginObject(onOneLine: true)
            json.key("reference")
            json.value(perplexity.reference)
            json.key("candidate")
            json.value(perplexity.candidate)
            json.end()
        } else {
            json.null()
        }
        json.key("greedy_agreement")
        if let count = logits.greedyAgreement { json.value(count) } else { json.null() }
        json.end()
    }

    private func writeLayers(to json: inout JSONWriter) {
        let blocks = verification.blocks
        json.key("layers")
        json.beginArray()
        for (index, layer) in (blocks?.layers ?? []).enumerated() {
            json.beginObject(onOneLine: true)
            json.key("index")
            json.value(index)
            json.key("reference")
            json.value(layer.kinds.reference.rawValue)
            json.key("candidate")
            json.value(layer.kinds.candidate.rawValue)
            for (key, value) in [
                ("relative_error" as StaticString, layer.relativeError), ("cosine", layer.cosine),
                ("block_relative_error", layer.blockError), ("mixer_relative_error", layer.mixerError),
                ("mlp_relative_error", layer.mlpError),
            ] {
                json.key(key)
                json.value(value)
            }
            json.end()
        }
        json.end()
        json.key("embedding_relative_error")
        json.value(blocks?.embeddingError)
        json.key("head_relative_error")
        json.value(blocks?.headError)
    }

    // MARK: Text

    /// Writes the report as text: a verdict, a table, and errors by layer as a chart.
    ///
    /// - Throws: any error that the output throws.
    public func writeText(to output: consuming ByteOutput) throws {
        for line in headlines { output.write(line + "\n") }
        if let logits = verification.logits { write(logits, to: &output) }
        writeChart(to: &output)
        try output.finish()
    }

    /// The lines above the tables: the verdict and its reasons, the audit, and the tokens.
    var headlines: [String] {
        let candidate = verification.candidate
        let paths =
            "\(candidate.checkpoint.path.printable()) (\(candidate.description.name)) against \(verification.reference.path.printable()) (\(referenceName))"
        var lines: [String] = []
        switch verification.verdict {
        case .match: lines.append("match: \(paths)")
        case .report: lines.append("report: \(paths)")
        case .differs: lines.append("DIFFERS: \(paths)")
        }
        if let failure = verification.failure { lines.append("no logits: \(failure)") }
        if let divergence = verification.firstDivergence {
            let place =
                divergence.layer.map { "layer \($0), \(divergence.block.rawValue)" } ?? divergence.block.rawValue
            lines.append(
                "first divergence: \(place): relative error \(valueText(divergence.error)) on the reference's own input"
            )
        } else if verification.verdict == .differs, verification.blocks != nil {
            lines.append(
                "no block diverges by itself on the reference's own input (limit \(valueText(verification.limits.block)))"
            )
        }
        for constant in verification.constants {
            lines.append(
                "\(constant.name): candidate \(constant.candidate.printable()), reference \(constant.reference.printable())"
            )
        }
        if let audit = verification.audit {
            let copies =
                audit.sourceCount > 0
                ? ", \(countText(audit.sourceCount)) of them copies of reference tensors" : ""
            lines.append(
                "audit against \(audit.path.printable()): "
                    + (audit.problems.isEmpty
                        ? "\(countText(audit.tensorCount, "tensor")) unchanged\(copies)"
                        : countText(audit.problems.count, "problem")))
            lines += audit.problems.prefix(10).map { "  " + $0.printable(limit: 300) }
        }
        let tokens = verification.tokens.sequences
        let count = verification.tokens.count
        lines.append(
            "\(countText(count, "token")) in \(countText(tokens.count, "sequence"))"
                + (isSeeded ? " from seed \(TokenSequences.seed): " : ": ") + tokensText(verification.tokens))
        return lines
    }

    /// Returns the rows of the logits table: a title, a value, its limit, and whether the limit is exceeded.
    func rows(_ logits: LogitsAgreement) -> [(title: String, value: String, limit: String, isExceeded: Bool)] {
        var rows: [(title: String, value: String, name: String?)] = [
            ("largest difference", valueText(logits.maximumDifference), "max_abs"),
            ("NMSE", valueText(logits.nmse), "nmse"),
            ("KL, mean (nats)", valueText(logits.kl.mean), "kl_mean"),
            ("KL, median", valueText(logits.kl.median), nil),
            ("KL, 99th percentile", valueText(logits.kl.p99), nil),
            ("KL, maximum", valueText(logits.kl.maximum), "kl_max"),
            ("top-1 agreement, \(countText(logits.clearCount)) clear tokens", valueText(logits.top1), "top1"),
            ("top-5 overlap", valueText(logits.top5), nil),
        ]
        if let perplexity = logits.perplexity {
            rows.append(("perplexity, reference", valueText(perplexity.reference), nil))
            rows.append(("perplexity, candidate", valueText(perplexity.candidate), nil))
        }
        if let count = logits.greedyAgreement { rows.append(("identical greedy tokens", countText(count), nil)) }
        let exceeded = verification.exceeded
        return rows.map { title, value, name in
            guard !verification.isReport, let name, let limit = verification.limits[name] else {
                return (title, value, "", false)
            }
            return (title, value, valueText(limit), exceeded.contains(name))
        }
    }

    private func write(_ logits: LogitsAgreement, to output: inout ByteOutput) {
        let path = verification.path.rawValue.replacing("_", with: " ")
        output.write("\n")
        var table = TextTable([
            ("logits", .left), ("", .right), (verification.isReport ? "" : "limit (\(path))", .right), ("", .left),
        ])
        for row in rows(logits) {
            [row.title, row.value, row.limit, row.isExceeded ? "exceeded" : ""].forEach { table.append($0) }
        }
        table.write(to: &output)
    }

    private func writeChart(to output: inout ByteOutput) {
        guard let blocks = verification.blocks else { return }
        output.write("\n")
        var table = TextTable([
            ("layer", .right), ("kind", .left), ("stream", .right), ("cosine", .right), ("mixer", .right),
            ("mlp", .right),
            ("block error, 1e-8 to 1", .left),
        ])
        func row(_ title: String, _ kind: String, _ cells: [String], _ error: Double) {
            ([title, kind] + cells + [bar(error)]).forEach { table.append($0) }
        }
        row("", "embedding", ["", "", valueText(blocks.embeddingError), ""], blocks.embeddingError)
        for (index, layer) in blocks.layers.enumerated() {
            let (a, b) = (layer.kinds.reference.rawValue, layer.kinds.candidate.rawValue)
            row(
                "\(index)", a == b ? a : "\(a) to \(b)",
                [
                    valueText(layer.relativeError), layer.cosine.map { preciseText($0) } ?? "-",
                    valueText(layer.mixerError), valueText(layer.mlpError),
                ], layer.blockError)
        }
        row("", "head", ["", "", valueText(blocks.headError), ""], blocks.headError)
        table.write(to: &output)
    }

    /// Returns a bar of three characters per power of ten above 1e-8: `█` if the block diverges, `░` if not.
    private func bar(_ error: Double) -> String {
        guard error > 0 else { return "" }
        let length = error.isFinite ? max(1, min(24, Int((decimalLogarithm(error) + 8) * 3))) : 24
        return String(repeating: error <= verification.limits.block ? "░" : "█", count: length)
    }
}
