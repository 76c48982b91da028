import Bytes
import CheckpointReports
public import RWKVDistillation
import RWKVNumerics

extension DistillationReport {
    /// The chart and the HTML page that are saved next to the log of a run.
    public var pages: [DistillationPage: String] { [.curve: curve.svg, .report: html] }

    /// A chart of the loss at each step and the KL divergence on held-out tokens.
    private var curve: SVGChart {
        // In a long run, each point of the loss is the mean over several consecutive steps.
        let count = log.steps.count + 1
        let together = (count + Self.widest - 1) / Self.widest
        let losses = log.steps.map(\.figures.loss)
        var series = [
            SVGChart.Series(
                name: "loss",
                values: losses.count.parts(of: together).map { part in
                    let finite = losses[part].filter(\.isFinite)
                    return finite.isEmpty ? nil : finite.reduce(0, +) / Double(finite.count)
                })
        ]
        var paths: [ByteString] = []
        for evaluation in log.evaluations where !paths.contains(ByteString(evaluation.path)) {
            paths.append(ByteString(evaluation.path))
        }
        for path in paths {
            var values = [Double?](repeating: nil, count: (count + together - 1) / together)
            for evaluation in log.evaluations where ByteString(evaluation.path) == path {
                values[evaluation.step / together] = evaluation.figures.divergence
            }
            series.append(.init(name: "KL, \(path.text.split(separator: "/").last ?? "")", values: values))
        }
        return SVGChart(
            title: "loss and divergence", xTitle: "step", series: series, isLogarithmic: true, together: together)
    }

    private static var widest: Int { 400 }

    /// The report as a self-contained HTML page.
    private var html: String {
        var body = ["<h1>\(headlines[0].escapedXML)</h1>"]
        body += (headlines.dropFirst() + [settingsText] + log.arithmetics.map(\.text)).map { "<p>\($0.escapedXML)</p>" }
        body.append(curve.svg)
        for (titles, rows) in [(lossTitles, lossRows), (Self.evaluationTitles, evaluationRows)] where !rows.isEmpty {
            let lines = rows.map { "<tr>" + $0.map { "<td>\($0.escapedXML)</td>" }.joined() + "</tr>" }
            body.append("<table><tr>\(titles.map { "<th>\($0)</th>" }.joined())</tr>\(lines.joined())</table>")
        }
        if let first = log.steps.first?.figures.layers, let last = log.steps.last?.figures.layers, !last.isEmpty {
            func errors(_ layers: [Alignment.LayerFigures]) -> [Double?] {
                var errors = [Double?](repeating: nil, count: (layers.map(\.layer).max() ?? 0) + 1)
                for layer in layers { errors[layer.layer] = layer.relativeError }
                return errors
            }
            body.append(
                SVGChart(
                    title: "relative error of time mixing", xTitle: "layer",
                    series: [
                        .init(name: "first step", values: errors(first)),
                        .init(name: "last step", values: errors(last)),
                    ], isLogarithmic: true
                ).svg)
        }
        return page(title: headlines[0], body: body.joined(separator: "\n"))
    }
}
