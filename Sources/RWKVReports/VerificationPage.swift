import CheckpointReports
import RWKVEvaluation

extension VerificationReport {
    /// The report as a self-contained HTML page.
    public var html: String {
        let verdict = verification.verdict
        var page = Page("verify", verdict: verdict.rawValue, verdict.tone)
        for line in findings + reasons { page.addParagraph(line) }
        page.addFacts([
            ("reference", referenceText), ("candidate", candidateText), ("tokens", tokensText),
            ("precision", precision),
        ])
        if let logits = verification.logits {
            let rows = rows(logits)
            page.addHeading("Logits")
            let columns = verification.isReport ? 2 : verification.exceeded.isEmpty ? 3 : 4
            page.addTable(
                Array(["", "value", "limit", ""].prefix(columns)), textColumns: [0, 3],
                rows.map {
                    Array([$0.title, $0.value, $0.limit, $0.isExceeded ? "exceeded" : ""].prefix(columns))
                }, highlighted: Set(rows.indices.filter { rows[$0].isExceeded }))
        }
        if !verification.constants.isEmpty {
            page.addHeading("Constants that differ")
            page.addTable(
                ["constant", "reference", "candidate"], textColumns: [0, 1, 2],
                verification.constants.map { [$0.name, $0.reference, $0.candidate] })
        }
        if let audit = verification.audit {
            page.addHeading("Audit")
            page.addFacts([("manifest", audit.path), ("result", text(audit))])
            page.addList(listed(audit.problems))
        }
        if let blocks = verification.blocks { add(blocks, to: &page) }
        return page.html
    }

    /// The reasons for the verdict `differs`, apart from the findings.
    private var reasons: [String] {
        guard verification.verdict == .differs else { return [] }
        var reasons: [String] = []
        func add(_ title: String, _ names: [String]) {
            if !names.isEmpty { reasons.append("\(title): \(names.joined(separator: ", "))") }
        }
        if !verification.isReport {
            add("limits exceeded", verification.exceeded)
            add("constants that differ", verification.constants.map(\.name))
        }
        if let audit = verification.audit, !audit.problems.isEmpty { add("audit", [text(audit)]) }
        return reasons
    }

    private func add(_ blocks: Verification.BlockAgreement, to page: inout Page) {
        let layers = blocks.layers
        let strips = LayerStrip.comparing(
            reference: layers.map(\.kinds.reference), candidate: layers.map(\.kinds.candidate))
        page.addHeading("Relative error by layer")
        page.addParagraph(
            "The residual stream accumulates the errors of all layers up to that point. The mixer and the MLP run on the reference's own input."
        )
        var errors = Chart(
            "relative error by layer", layers: strips,
            [
                .init("residual stream", ofLayers: layers.map(\.relativeError)),
                .init("mixer", ofLayers: layers.map(\.mixerError)), .init("mlp", ofLayers: layers.map(\.mlpError)),
            ])
        errors.limit = ("block limit \(valueText(verification.limits.block))", verification.limits.block)
        if let divergence = verification.firstDivergence {
            // The embedding comes before the first layer, the head after the last.
            let x =
                divergence.layer.map(Double.init) ?? (divergence.block == .embedding ? -0.5 : errors.xRange.upperBound)
            errors.mark = ("first divergence: \(divergence.block.rawValue)", x)
        }
        page.addChart(errors)
        page.addHeading("Cosine of the residual streams by layer")
        let lowest = layers.contains { ($0.cosine ?? 0) < 0 } ? -1.0 : 0
        page.addChart(
            Chart(
                "cosine of the residual streams by layer", layers: strips,
                [.init("cosine", ofLayers: layers.map(\.cosine))], scale: .linear(lowest...1)))
        page.addHeading("Blocks")
        let rows = blockRows(blocks)
        page.addTable(Self.blockTitles, textColumns: [1], rows.map(\.cells))
    }
}

extension Verification.Verdict {
    fileprivate var tone: Page.Tone {
        switch self {
        case .match: .good
        case .differs: .bad
        case .report: .plain
        }
    }
}
