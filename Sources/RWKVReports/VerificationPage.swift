import CheckpointFiles
import CheckpointReports
import RWKVEvaluation
import RWKVInference

extension VerificationReport {
    /// The report as a self-contained HTML page.
    public var html: String {
        var body = ["<h1>\(verification.verdict.rawValue)</h1>"]
        body += headlines.map { "<p>\($0.escapedXML)</p>" }
        if let logits = verification.logits {
            let cells = rows(logits).map { row in
                let mark = row.isExceeded ? " class=\"over\"" : ""
                return "<tr\(mark)><td>\(row.title)</td><td>\(row.value)</td><td>\(row.limit)</td></tr>"
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

/// Returns a self-contained HTML page with a title and a body.
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
