public import Bytes
import CheckpointJSON
import CheckpointFiles
import CheckpointReports
import ModelFamilies
public import RWKVEvaluation
import RWKVInference
import TokenFiles

/// The report of the command `verify`.
public struct VerificationReport: Sendable {
    let verification: Verification
    private let isSeeded: Bool
    private let warnings: [CheckpointWarning]

    /// Creates a report on a verification.
    ///
    /// `isSeeded` states whether the tokens were generated from a seed.
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

    /// Writes the report as a JSON document that conforms to schemas/verify.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", "rwkv-ckpt/verify/1")
            json.member("verdict", verification.verdict.rawValue)
            json.object("reference", onOneLine: true) { json in
                json.member("path", verification.reference.path)
                json.member("model", referenceName)
            }
            json.object("candidate", onOneLine: true) { json in
                json.member("path", verification.candidate.checkpoint.path)
                json.member("model", verification.candidate.description.name)
            }
            json.object("tokens", onOneLine: true) { json in
                json.member("sequences", verification.tokens.sequences.count)
                json.member("count", verification.tokens.count)
            }
            json.members(seedOf: verification.tokens, isSeeded)
            json.member("logits", verification.logits.map(LogitsObject.init))
            json.object("limits", onOneLine: true) { json in
                json.member("precision", verification.path.rawValue)
                for name in VerificationLimits.names { json.member(text: name, verification.limits[name]) }
            }
            json.member("exceeded", verification.isReport ? [] : verification.exceeded)
            json.array("constants", of: verification.constants) { json, constant in
                json.member("name", constant.name)
                json.member("reference", constant.reference)
                json.member("candidate", constant.candidate)
            }
            writeLayers(to: &json)
            json.object("first_divergence", of: verification.firstDivergence) { json, divergence in
                json.member("layer", divergence.layer)
                json.member("block", divergence.block.rawValue)
                json.member("relative_error", divergence.error)
            }
            json.member("audit", verification.audit.map(AuditObject.init))
            json.member("failure", verification.failure?.description)
            json.member("warnings", of: warnings)
        }
    }

    private func writeLayers(to json: inout JSONWriter) {
        let blocks = verification.blocks
        json.array("layers", of: (blocks?.layers ?? []).enumerated()) { json, layer in
            json.member("index", layer.offset)
            json.member("reference", layer.element.kinds.reference.rawValue)
            json.member("candidate", layer.element.kinds.candidate.rawValue)
            json.member("relative_error", layer.element.relativeError)
            json.member("cosine", layer.element.cosine)
            json.member("block_relative_error", layer.element.blockError)
            json.member("mixer_relative_error", layer.element.mixerError)
            json.member("mlp_relative_error", layer.element.mlpError)
        }
        json.member("embedding_relative_error", blocks?.embeddingError)
        json.member("head_relative_error", blocks?.headError)
    }

    // MARK: Text

    /// Writes the report as text.
    ///
    /// The report consists of the verdict, a table of the logits' differences, and a chart of the errors in each layer.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
        for line in headlines { output.write(line + "\n") }
        if let logits = verification.logits { write(logits, to: &output) }
        writeChart(to: &output)
        try output.finish()
    }

    /// The lines above the tables: the verdict and its reasons, the audit, and the tokens.
    private var headlines: [String] {
        let paths = "\(candidateText.printable()) against \(referenceText.printable())"
        var lines: [String] = []
        switch verification.verdict {
        case .match: lines.append("match: \(paths)")
        case .report: lines.append("report: \(paths)")
        case .differs: lines.append("DIFFERS: \(paths)")
        }
        lines += findings
        for constant in verification.constants {
            lines.append(
                "\(constant.name): candidate \(constant.candidate.printable()), reference \(constant.reference.printable())"
            )
        }
        if let audit = verification.audit {
            lines.append("audit against \(audit.path.printable()): \(text(audit))")
            lines += listed(audit.problems).map { "  " + $0 }
        }
        return lines + [tokensText]
    }

    /// The path and the model of the candidate.
    var candidateText: String {
        "\(verification.candidate.checkpoint.path) (\(verification.candidate.description.name))"
    }

    /// The path and the model of the reference.
    var referenceText: String { "\(verification.reference.path) (\(referenceName))" }

    /// Why there are no logits, and where the models first diverge.
    var findings: [String] {
        var lines: [String] = []
        if let failure = verification.failure { lines.append("no logits: \(failure)") }
        if let divergence = verification.firstDivergence {
            lines.append(
                "first divergence: \(place(of: divergence)): relative error \(valueText(divergence.error)) on the reference's own input"
            )
        } else if verification.verdict == .differs, verification.blocks != nil {
            lines.append(
                "no block diverges by itself on the reference's own input (limit \(valueText(verification.limits.block)))"
            )
        }
        return lines
    }

    private func place(of divergence: Verification.Divergence) -> String {
        divergence.layer.map { "layer \($0), \(divergence.block.rawValue)" } ?? divergence.block.rawValue
    }

    /// Returns the result of an audit.
    func text(_ audit: ConversionAudit) -> String {
        guard audit.problems.isEmpty else { return countText(audit.problems.count, "problem") }
        let copies =
            audit.sourceCount > 0 ? ", \(countText(audit.sourceCount)) of them copies of reference tensors" : ""
        return "\(countText(audit.tensorCount, "tensor")) unchanged\(copies)"
    }

    /// Returns the first problems, shortened where they are long.
    func listed(_ problems: [String]) -> [String] { problems.prefix(10).map { $0.printable(limit: 300) } }

    /// The number of tokens, and the first few of them.
    var tokensText: String {
        let tokens = verification.tokens
        return "\(countText(tokens.count, "token")) in \(countText(tokens.sequences.count, "sequence"))"
            + (isSeeded ? " from seed \(TokenSequences.seed): " : ": ") + RWKVReports.tokensText(tokens)
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

    /// What was rounded, in words.
    var precision: String { verification.path.rawValue.replacing("_", with: " ") }

    private func write(_ logits: LogitsAgreement, to output: inout ByteOutput) {
        output.write("\n")
        var table = TextTable([
            ("logits", .left), ("", .right), (verification.isReport ? "" : "limit (\(precision))", .right), ("", .left),
        ])
        for row in rows(logits) {
            [row.title, row.value, row.limit, row.isExceeded ? "exceeded" : ""].forEach { table.append($0) }
        }
        table.write(to: &output)
    }

    /// The column titles of ``blockRows``.
    static let blockTitles = ["layer", "kind", "stream", "cosine", "mixer", "mlp"]

    /// The rows of the block table: the embedding, each layer and the head, each row with its largest block error.
    func blockRows(_ blocks: Verification.BlockAgreement) -> [(cells: [String], error: Double)] {
        let layers = blocks.layers.enumerated().map { index, layer in
            let (a, b) = (layer.kinds.reference.rawValue, layer.kinds.candidate.rawValue)
            let cells = [
                "\(index)", a == b ? a : "\(a) to \(b)", valueText(layer.relativeError),
                layer.cosine.map { preciseText($0) } ?? "-", valueText(layer.mixerError), valueText(layer.mlpError),
            ]
            return (cells, layer.blockError)
        }
        return [(["", "embedding", "", "", valueText(blocks.embeddingError), ""], blocks.embeddingError)] + layers
            + [(["", "head", "", "", valueText(blocks.headError), ""], blocks.headError)]
    }

    private func writeChart(to output: inout ByteOutput) {
        guard let blocks = verification.blocks else { return }
        output.write("\n")
        var table = TextTable(
            Self.blockTitles.map { ($0, $0 == "kind" ? .left : .right) } + [("block error, 1e-8 to 1", .left)])
        for (cells, error) in blockRows(blocks) { (cells + [bar(error)]).forEach { table.append($0) } }
        table.write(to: &output)
    }

    /// Returns a bar whose length is three characters for each power of ten above 1e-8.
    ///
    /// The bar consists of `█` if the error exceeds the limit for a block, and of `░` otherwise.
    private func bar(_ error: Double) -> String {
        guard error > 0 else { return "" }
        let length = error.isFinite ? max(1, min(24, Int((decimalLogarithm(error) + 8) * 3))) : 24
        return String(repeating: error <= verification.limits.block ? "░" : "█", count: length)
    }
}

/// The JSON object of the differences between logits.
private struct LogitsObject: JSONWritable {
    let logits: LogitsAgreement

    func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("max_abs", logits.maximumDifference)
            json.member("nmse", logits.nmse)
            json.object("kl", onOneLine: true) { json in
                json.member("mean", logits.kl.mean)
                json.member("median", logits.kl.median)
                json.member("p99", logits.kl.p99)
                json.member("max", logits.kl.maximum)
            }
            json.member("top1", logits.top1)
            json.member("clear_tokens", logits.clearCount)
            json.member("top5", logits.top5)
            json.object("perplexity", of: logits.perplexity) { json, perplexity in
                json.member("reference", perplexity.reference)
                json.member("candidate", perplexity.candidate)
            }
            json.member("greedy_agreement", logits.greedyAgreement)
        }
    }
}

/// The JSON object of an audit.
private struct AuditObject: JSONWritable {
    let audit: ConversionAudit

    func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("path", audit.path)
            json.member("tensors", audit.tensorCount)
            json.member("copies_of_reference", audit.sourceCount)
            json.array("problems") { json in
                for problem in audit.problems { json.value(problem) }
            }
        }
    }
}
