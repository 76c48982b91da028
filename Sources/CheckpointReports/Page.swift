import Bytes
import CheckpointJSON

/// A self-contained HTML page, built from top to bottom.
///
/// The page has no scripts and loads nothing. All text is escaped here, so callers pass it as is. The markup is also
/// well-formed XML.
package struct Page {
    /// How a verdict is coloured.
    package enum Tone: String {
        case good
        case bad
        case plain
    }

    private let subject: String
    private let verdict: String
    private let tone: Tone
    private var parts: [String] = []
    /// The most recent heading, used as the label of scrollable regions.
    private var section: String

    /// Creates a page with the title `subject: verdict` and no content.
    ///
    /// - Parameters:
    ///   - subject: what the page is about.
    ///   - verdict: the result in a few words.
    ///   - tone: how the verdict is coloured.
    package init(_ subject: String, verdict: String, _ tone: Tone = .plain) {
        (self.subject, self.verdict, self.tone) = (subject, verdict, tone)
        section = subject
    }

    /// Adds a heading.
    package mutating func addHeading(_ text: String) {
        section = text
        parts.append("<h2>\(text.escapedXML)</h2>")
    }

    /// Adds a paragraph.
    package mutating func addParagraph(_ text: String) {
        parts.append("<p>\(text.escapedXML)</p>")
    }

    /// Adds a bulleted list, or nothing if there are no items.
    package mutating func addList(_ items: [String]) {
        guard !items.isEmpty else { return }
        parts.append("<ul>\(items.map { "<li>\($0.escapedXML)</li>" }.joined(separator: "\n"))</ul>")
    }

    /// Adds a list of names and values; long values, such as paths, wrap anywhere.
    package mutating func addFacts(_ facts: [(name: String, value: String)]) {
        let lines = facts.map { "<dt>\($0.name.escapedXML)</dt><dd>\($0.value.escapedXML)</dd>" }
        parts.append("<dl>\(lines.joined(separator: "\n"))</dl>")
    }

    /// Adds a table that scrolls sideways where it does not fit.
    ///
    /// - Parameters:
    ///   - titles: the titles of the columns.
    ///   - textColumns: the columns of text, which are aligned left; the others are numbers, aligned right.
    ///   - rows: the cells of each row.
    ///   - highlighted: the indices of the rows to highlight.
    package mutating func addTable(
        _ titles: [String], textColumns: Set<Int> = [0], _ rows: [[String]], highlighted: Set<Int> = []
    ) {
        func line(_ tag: String, _ cells: [String], _ style: String = "") -> String {
            let cells = cells.enumerated().map { column, cell in
                "<\(tag)\(textColumns.contains(column) ? " class=\"text\"" : "")>\(cell.escapedXML)</\(tag)>"
            }
            return "<tr\(style)>\(cells.joined())</tr>"
        }
        let body = rows.enumerated().map { line("td", $1, highlighted.contains($0) ? " class=\"bad\"" : "") }
        addScrolling(
            """
            <table>
            <thead>\(line("th", titles))</thead>
            <tbody>
            \(body.joined(separator: "\n"))
            </tbody>
            </table>
            """)
    }

    /// Adds a chart.
    package mutating func addChart(_ chart: Chart) { addScrolling(chart.svg()) }

    private mutating func addScrolling(_ content: String) {
        parts.append(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"\(section.escapedXML)\">\n\(content)\n</div>"
        )
    }

    /// The page as HTML.
    package var html: String {
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8"/>
        <meta name="viewport" content="width=device-width, initial-scale=1"/>
        <title>\(subject.escapedXML): \(verdict.escapedXML)</title>
        <style>
        \(PageStyle.colours)
        \(PageStyle.page)
        \(PageStyle.chart)
        </style>
        </head>
        <body>
        <h1 class="\(tone.rawValue)">\(subject.escapedXML): <strong>\(verdict.escapedXML)</strong></h1>
        \(parts.joined(separator: "\n"))
        </body>
        </html>

        """
    }
}

extension String {
    /// The text, made printable and escaped for XML and HTML.
    ///
    /// Scalars are escaped one by one, because a character such as `<` with a combining mark is not equal to `<`.
    package var escapedXML: String {
        var escaped = ""
        for scalar in printable().unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
