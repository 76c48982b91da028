import Bytes
import CheckpointReports
public import RWKVDistillation
import RWKVNumerics

extension DistillationReport {
    /// The chart and the HTML page, which are saved next to the log of a run.
    public var pages: [DistillationPage: String] { [.curve: curve.svg(isAlone: true), .report: html] }

    /// The maximum number of points in the loss curve; in a longer run, each point is the mean of several steps.
    private static var maximumPoints: Int { 400 }

    /// A chart of the loss of each step and the KL divergence on held-out tokens.
    private var curve: Chart {
        let steps = log.steps.map(\.figures)
        let together = max(1, (steps.count + Self.maximumPoints - 1) / Self.maximumPoints)
        let losses = steps.count.parts(of: together).map { part in
            let middle = Double(steps[part.lowerBound].number + steps[part.upperBound - 1].number) / 2
            return (x: middle, y: Double?(steps[part].reduce(0) { $0 + $1.loss } / Double(part.count)))
        }
        let series = heldOut.map { path, name in
            Chart.Series(
                "KL, \(name)",
                log.evaluations.filter { ByteString($0.path) == path }.map { (Double($0.step), $0.figures.divergence) })
        }
        return Chart(
            "Loss and KL divergence by step", xTitle: "step", xRange: 0...Double(max(1, steps.count)),
            [.init("loss", losses)] + series)
    }

    /// The files of held-out tokens: the path of each, and its shortest suffix that no other path shares.
    private var heldOut: [(path: ByteString, name: String)] {
        var paths: [ByteString] = []
        for evaluation in log.evaluations where !paths.contains(ByteString(evaluation.path)) {
            paths.append(ByteString(evaluation.path))
        }
        return zip(paths, shortNames(paths.map(\.text))).map { ($0, $1) }
    }

    private var html: String {
        let done = log.steps.count
        var page = Page(
            "Distillation, stage \(stage)",
            verdict: (done == settings.steps ? "" : "\(countText(done)) of ") + countText(settings.steps, "step"))
        if let skippedText { page.addParagraph(skippedText) }
        let heldOut = heldOut
        page.addFacts(
            [
                ("teacher", "\(paths.teacher) (\(teacherName))"), ("student", "\(paths.student) (\(variant))"),
                ("output", paths.output), ("steps", stepsText), ("trained", trainedText), ("settings", settingsText),
            ] + log.arithmetics.map { ("arithmetic", $0.text) } + heldOut.map { ("held out", $0.path.text) })
        page.addHeading("Loss and KL divergence by step")
        page.addChart(curve)
        if !lossRows.isEmpty {
            page.addHeading("First and last step")
            page.addTable(lossTitles, lossRows)
        }
        addLayers(to: &page)
        if !evaluationRows.isEmpty {
            page.addHeading("Evaluation on held-out tokens")
            let names = Dictionary(heldOut.map { ($0.path, $0.name) }, uniquingKeysWith: { first, _ in first })
            page.addTable(
                Self.evaluationTitles,
                zip(log.evaluations, evaluationRows).map { [names[ByteString($0.path)] ?? ""] + $1.dropFirst() })
        }
        return page.html
    }

    /// Adds a chart of the error of each layer that stage 1 aligns.
    private func addLayers(to page: inout Page) {
        guard let first = log.steps.first?.figures.layers, let last = log.steps.last?.figures.layers, !last.isEmpty
        else { return }
        func errors(_ layers: [Alignment.LayerFigures]) -> [Double?] {
            kinds.indices.map { index in layers.first { $0.layer == index }?.relativeError }
        }
        page.addHeading("Relative error of time mixing by layer")
        page.addChart(
            Chart(
                "relative error of time mixing by layer", layers: [LayerStrip(kinds)],
                [.init("first step", ofLayers: errors(first)), .init("last step", ofLayers: errors(last))]))
    }
}
