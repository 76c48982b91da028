public import CheckpointJSON
import CheckpointFiles
import ModelFamilies
public import RWKVEvaluation
import RWKVInference

/// What `verify` says.
public struct VerificationReport: Sendable {
    private let verification: Verification
    private let isSeeded: Bool

    /// A report on a verification; `isSeeded` where nobody said what tokens to take.
    public init(_ verification: Verification, isSeeded: Bool) {
        self.verification = verification
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
    /// - Throws: what the output throws.
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
        json.value(verification.tokens.sequences.reduce(0) { $0 + $1.count })
        json.key("seeded")
        json.value(isSeeded)
        json.end()
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
        json.value(verification.failure.map { .string($0.description) } ?? .null)
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
        json.key("layers")
        guard let blocks = verification.blocks else {
            json.null()
            return
        }
        json.beginArray()
        for (index, layer) in blocks.layers.enumerated() {
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
        json.value(blocks.embeddingError)
        json.key("head_relative_error")
        json.value(blocks.headError)
    }

    // MARK: Text

    /// Writes the report for people: a verdict, a table, a chart of errors by layer.
    ///
    /// - Throws: what the output throws.
    public func writeText(to output: consuming ByteOutput) throws {
        for line in headlines { output.write(line + "\n") }
        if let logits = verification.logits { write(logits, to: &output) }
        writeChart(to: &output)
        try output.finish()
    }

    /// The verdict, and what it is about.
    private var headlines: [String] {
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
                "\(constant.name) is \(constant.candidate.printable()), the reference's \(constant.reference.printable())"
            )
        }
        if let audit = verification.audit {
            let copies =
                audit.sourceCount > 0
                ? ", \(countText(audit.sourceCount)) of them copies of the reference's" : ""
            lines.append(
                "audit by \(audit.path.printable()): "
                    + (audit.problems.isEmpty
                        ? "\(countText(audit.tensorCount, "tensor")) as they were made\(copies)"
                        : countText(audit.problems.count, "problem")))
            lines += audit.problems.prefix(10).map { "  " + $0.printable(limit: 300) }
        }
        let tokens = verification.tokens.sequences
        let count = tokens.reduce(0) { $0 + $1.count }
        lines.append(
            "\(countText(count, "token")) in \(countText(tokens.count, "sequence"))"
                + (isSeeded ? ", of seed \(TokenSequences.seed): " : ": ") + tokensText(verification.tokens))
        return lines
    }

    private func write(_ logits: LogitsAgreement, to output: inout ByteOutput) {
        let limits = verification.limits
        let path = verification.path.rawValue.replacing("_", with: " ")
        output.write("\n")
        var table = TextTable([
            ("logits", .left), ("", .right), (verification.isReport ? "" : "limit (\(path))", .right), ("", .left),
        ])
        func row(_ title: String, _ value: String, _ name: String? = nil) {
            table.append(title)
            table.append(value)
            table.append(verification.isReport ? "" : name.flatMap { limits[$0] }.map { valueText($0) } ?? "")
            let isExceeded = name.map { verification.exceeded.contains($0) } ?? false
            table.append(isExceeded && !verification.isReport ? "exceeded" : "")
        }
        row("largest difference", valueText(logits.maximumDifference), "max_abs")
        row("NMSE", valueText(logits.nmse), "nmse")
        row("KL, mean (nats)", valueText(logits.kl.mean), "kl_mean")
        row("KL, median", valueText(logits.kl.median))
        row("KL, 99th percentile", valueText(logits.kl.p99))
        row("KL, largest", valueText(logits.kl.maximum), "kl_max")
        row(
            "same first choice, of \(countText(logits.clearCount)) clear",
            logits.top1.map { valueText($0) } ?? "-", "top1")
        row("common first five", valueText(logits.top5))
        if let perplexity = logits.perplexity {
            row("perplexity, reference", valueText(perplexity.reference))
            row("perplexity, candidate", valueText(perplexity.candidate))
        }
        if let count = logits.greedyAgreement { row("greedy tokens alike", countText(count)) }
        table.write(to: &output)
    }

    private func writeChart(to output: inout ByteOutput) {
        guard let blocks = verification.blocks else { return }
        output.write("\n")
        var table = TextTable([
            ("layer", .right), ("kind", .left), ("stream", .right), ("cosine", .right), ("mixer", .right),
            ("mlp", .right),
            ("error of blocks, 1e-8 to 1", .left),
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

    /// Three characters for each power of ten above 1e-8, marked where a block diverges.
    private func bar(_ error: Double) -> String {
        guard error > 0 else { return "" }
        let length = error.isFinite ? max(1, min(24, Int((powerOfTen(error) + 8) * 3))) : 24
        return String(repeating: error <= verification.limits.block ? "░" : "█", count: length)
    }

    // MARK: HTML

    /// The report as one page that needs no other file.
    public var html: String {
        var body = ["<h1>\(verification.verdict.rawValue)</h1>"]
        body += headlines.map { "<p>\($0.escapedXML)</p>" }
        if let logits = verification.logits {
            var rows = [
                ("largest difference", valueText(logits.maximumDifference), "max_abs"),
                ("NMSE", valueText(logits.nmse), "nmse"), ("KL, mean (nats)", valueText(logits.kl.mean), "kl_mean"),
                ("KL, median", valueText(logits.kl.median), ""),
                ("KL, 99th percentile", valueText(logits.kl.p99), ""),
                ("KL, largest", valueText(logits.kl.maximum), "kl_max"),
                (
                    "same first choice, of \(countText(logits.clearCount)) clear",
                    logits.top1.map { valueText($0) } ?? "-", "top1"
                ), ("common first five", valueText(logits.top5), ""),
            ]
            if let perplexity = logits.perplexity {
                rows.append(("perplexity, reference", valueText(perplexity.reference), ""))
                rows.append(("perplexity, candidate", valueText(perplexity.candidate), ""))
            }
            if let count = logits.greedyAgreement { rows.append(("greedy tokens alike", countText(count), "")) }
            let cells = rows.map { title, value, name in
                let limit = verification.isReport ? "" : verification.limits[name].map { valueText($0) } ?? ""
                let mark = !verification.isReport && verification.exceeded.contains(name) ? " class=\"over\"" : ""
                return "<tr\(mark)><td>\(title)</td><td>\(value)</td><td>\(limit)</td></tr>"
            }
            body.append("<table><tr><th>logits</th><th></th><th>limit</th></tr>\(cells.joined())</table>")
        }
        if let layers = verification.blocks?.layers {
            body.append(
                SVGChart(
                    title: "relative error", xTitle: "layer",
                    series: [
                        .init(name: "residual stream", values: layers.map(\.relativeError)),
                        .init(name: "mixer alone", values: layers.map(\.mixerError)),
                        .init(name: "mlp alone", values: layers.map(\.mlpError)),
                    ], isLogarithmic: true
                ).svg)
            body.append(
                SVGChart(
                    title: "cosine of the residual streams", xTitle: "layer",
                    series: [.init(name: "cosine", values: layers.map(\.cosine))], isLogarithmic: false
                ).svg)
        }
        return page(title: "verify \(verification.candidate.checkpoint.path)", body: body.joined(separator: "\n"))
    }
}

/// A page of HTML that needs no other file.
func page(title: String, body: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>\(title.escapedXML)</title>
    <style>
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2em auto; padding: 0 1em; color: #111 }
    table { border-collapse: collapse } td, th { padding: .2em 1em .2em 0; text-align: right }
    td:first-child, th:first-child { text-align: left } .over { color: #b91c1c; font-weight: 600 }
    </style>
    <body>
    \(body)
    </body>
    </html>

    """
}

extension ModelDescription {
    /// What it is called in reports.
    var name: String { variant ?? architecture.family }
}
