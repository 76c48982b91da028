/// The elements of an SVG image, in the order in which they are drawn.
struct Drawing {
    private var elements: [String] = []

    /// The elements as markup.
    var markup: String { elements.joined(separator: "\n") }

    /// Escapes text and draws it on the baseline `y`.
    mutating func add(_ text: String, x: Double, y: Double, anchor: String = "start", style: String? = nil) {
        let style = style.map { " class=\"\($0)\"" } ?? ""
        elements.append(
            "<text x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" text-anchor=\"\(anchor)\"\(style)>\(text.escapedXML)</text>"
        )
    }

    /// Draws text centred at `x`, or as close to it as possible without leaving `ends`.
    mutating func addCentred(
        _ text: String, x: Double, y: Double, within ends: ClosedRange<Double>, style: String? = nil
    ) {
        let half = Self.width(of: text) / 2
        let x = min(max(x, ends.lowerBound + half), ends.upperBound - half)
        add(text, x: x, y: y, anchor: "middle", style: style)
    }

    /// Returns the approximate width of text in the chart font.
    static func width(of text: String) -> Double { Double(text.count) * 6.8 }

    /// Draws a line.
    mutating func addLine(x: (Double, Double), y: (Double, Double), style: String) {
        elements.append(
            "<line x1=\"\(Self.text(x.0))\" y1=\"\(Self.text(y.0))\" x2=\"\(Self.text(x.1))\" y2=\"\(Self.text(y.1))\" stroke=\"gray\" class=\"\(style)\"/>"
        )
    }

    /// Draws a line through points, in the colour of the group.
    mutating func addLine(through points: [(x: Double, y: Double)]) {
        let points = points.map { "\(Self.text($0.x)),\(Self.text($0.y))" }.joined(separator: " ")
        elements.append("<polyline points=\"\(points)\" fill=\"none\" stroke=\"currentColor\"/>")
    }

    /// Draws the marker of a series in the colour of the group, with a title that appears when the pointer is over it.
    ///
    /// The shape of the marker depends on the series.
    mutating func addMarker(ofSeries number: Int, x: Double, y: Double, title: String? = nil) {
        let shapes = [
            "m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z", "m-3-3h6v6h-6z", "m0-4l3.8 6.6h-7.6z",
            "m0-4.2l4.2 4.2l-4.2 4.2l-4.2-4.2z",
        ]
        elements.append(
            "<path d=\"M\(Self.text(x)) \(Self.text(y))\(shapes[(number + number / Self.colourCount) % shapes.count])\" fill=\"currentColor\">\(Self.element(title))</path>"
        )
    }

    /// Draws the cross that marks a value that is not finite, in the colour of the group.
    mutating func addCross(x: Double, y: Double, title: String? = nil) {
        elements.append(
            "<path d=\"M\(Self.text(x)) \(Self.text(y))m-4-4l8 8m0-8l-8 8\" stroke=\"currentColor\" stroke-width=\"2\">\(Self.element(title))</path>"
        )
    }

    /// Draws a cell for a layer, with the letter of its kind if there is room.
    mutating func addCell(_ letter: Character, x: Double, y: Double, width: Double, style: String, title: String? = nil)
    {
        beginGroup(style)
        let height = 15.0
        elements.append(
            "<rect x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" width=\"\(Self.text(width))\" height=\"\(Self.text(height))\" fill=\"none\" stroke=\"none\">\(Self.element(title))</rect>"
        )
        if width >= 9 { add("\(letter)", x: x + width / 2, y: y + 11.5, anchor: "middle") }
        endGroup()
    }

    /// Begins a group for the elements of a series, in its colour.
    ///
    /// If there are more series than colours, the colours repeat with different markers.
    mutating func beginSeries(_ number: Int) { beginGroup("s\(number % Self.colourCount)") }

    /// Begins a group of elements with a style.
    mutating func beginGroup(_ style: String) { elements.append("<g class=\"\(style)\">") }

    /// Ends the group.
    mutating func endGroup() { elements.append("</g>") }

    private static let colourCount = 4

    private static func element(_ title: String?) -> String { title.map { "<title>\($0.escapedXML)</title>" } ?? "" }

    private static func text(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }
}
