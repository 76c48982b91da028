import Bytes
import CheckpointReports

/// A line chart that is rendered as an SVG element.
struct SVGChart {
    /// A line in the chart.
    struct Series {
        let name: String
        /// The values at successive positions on the x axis, where nil means that there is no point.
        let values: [Double?]
    }

    let title: String
    let xTitle: String
    let series: [Series]
    /// Whether the y axis is logarithmic.
    ///
    /// A logarithmic axis shows values that are not positive at the bottom of the chart.
    let isLogarithmic: Bool
    /// The number of x values, such as steps, that each position on the x axis covers.
    var together = 1

    private static let (width, height) = (720.0, 280.0)
    private static let (left, right, top, bottom) = (70.0, 20.0, 36.0, 52.0)
    private static let widestDots = 64
    private static let colours = ["#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce"]

    /// The chart as an SVG element.
    var svg: String {
        let (low, high) = range
        let count = series.map(\.values.count).max() ?? 0
        func x(_ place: Int) -> Double {
            Self.left + (Self.width - Self.left - Self.right) * (Double(place) + 0.5) / Double(max(1, count))
        }
        func y(_ value: Double) -> Double {
            let place = (min(max(value, low), high) - low) / (high - low)
            return Self.height - Self.bottom - (Self.height - Self.top - Self.bottom) * place
        }
        var parts = [
            #"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \#(text(Self.width)) \#(text(Self.height))" role="img" font-family="system-ui, sans-serif" font-size="12">"#,
            #"<title>\#(title.escapedXML)</title><rect width="100%" height="100%" fill="white"/>"#,
            #"<text x="\#(text(Self.left))" y="20" font-size="14" fill="black">\#(title.escapedXML)</text>"#,
        ]
        for tick in ticks(low, high) {
            let height = text(y(tick))
            parts.append(
                #"<line x1="\#(text(Self.left))" x2="\#(text(Self.width - Self.right))" y1="\#(height)" y2="\#(height)" stroke="lightgray"/><text x="\#(text(Self.left - 8))" y="\#(text(y(tick) + 4))" text-anchor="end" fill="dimgray">\#(label(tick))</text>"#
            )
        }
        for place in stride(from: 0, to: count, by: placesBetweenLabels(count)) {
            parts.append(
                #"<text x="\#(text(x(place)))" y="\#(text(Self.height - Self.bottom + 18))" text-anchor="middle" fill="dimgray">\#(place * together)</text>"#
            )
        }
        parts.append(
            #"<text x="\#(text(Self.width / 2))" y="\#(text(Self.height - 8))" text-anchor="middle" fill="dimgray">\#(xTitle.escapedXML)</text>"#
        )
        for (number, line) in series.enumerated() {
            let colour = Self.colours[number % Self.colours.count]
            let points = line.values.enumerated().compactMap { place, value in
                height(of: value).map { (x(place), y($0)) }
            }
            let path = points.map { "\(text($0.0)),\(text($0.1))" }.joined(separator: " ")
            parts.append(#"<polyline points="\#(path)" fill="none" stroke="\#(colour)" stroke-width="2"/>"#)
            // Lines with few points also have a dot at each point.
            for point in points where points.count <= Self.widestDots {
                parts.append(#"<circle cx="\#(text(point.0))" cy="\#(text(point.1))" r="3" fill="\#(colour)"/>"#)
            }
            let place = Self.width - Self.right - Double(series.count - number) * min(150, 620 / Double(series.count))
            parts.append(
                #"<rect x="\#(text(place))" y="11" width="12" height="12" fill="\#(colour)"/><text x="\#(text(place + 18))" y="21" fill="black">\#(line.name.escapedXML)</text>"#
            )
        }
        return parts.joined(separator: "\n") + "\n</svg>\n"
    }

    /// Returns a value, or its logarithm if the y axis is logarithmic, before it is scaled to the chart.
    ///
    /// Returns nil if the value cannot be drawn.
    private func height(of value: Double?) -> Double? {
        guard let value, !value.isNaN else { return nil }
        guard isLogarithmic else { return value.isFinite ? value : nil }
        return value > 0 ? min(decimalLogarithm(value), range.high) : range.low
    }

    private var range: (low: Double, high: Double) {
        let values = series.flatMap(\.values).compactMap { $0 }.filter { $0.isFinite && (!isLogarithmic || $0 > 0) }
        let heights = isLogarithmic ? values.map(decimalLogarithm) : values
        guard var low = heights.min(), var high = heights.max() else { return (-1, 0) }
        if isLogarithmic { (low, high) = (low.rounded(.down), high.rounded(.up)) } else { low = min(low, 0) }
        return low < high ? (low, high) : (low, low + 1)
    }

    private func ticks(_ low: Double, _ high: Double) -> [Double] {
        let step = isLogarithmic ? max(1, ((high - low) / 6).rounded(.up)) : (high - low) / 5
        return Array(stride(from: low, through: high + step / 1000, by: step))
    }

    private func label(_ tick: Double) -> String {
        isLogarithmic ? "1e\(Int(tick.rounded()))" : valueText(tick)
    }

    /// Returns the number of positions between labels on the x axis.
    ///
    /// This is the smallest of 1, 2, 5, 10, 20, 50 and so on that gives at most sixteen labels.
    private func placesBetweenLabels(_ count: Int) -> Int {
        var unit = 1
        while true {
            for step in [unit, 2 * unit, 5 * unit] where step * 16 >= count { return step }
            unit *= 10
        }
    }

    private func text(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }
}

extension String {
    /// The text in printable form, with special characters escaped for XML and HTML.
    var escapedXML: String {
        printable().replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;")
    }
}
