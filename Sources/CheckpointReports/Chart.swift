import Bytes
import CheckpointFiles
import ModelFamilies

/// A chart as one SVG element: lines over a common x axis, and beneath it strips that show each layer's kind.
///
/// Without series, the chart consists of the strips and their axis.
package struct Chart {
    /// A line of the chart.
    package struct Series {
        /// The name in the legend.
        let name: String
        /// The points, in ascending order of x; a point whose y is nil interrupts the line.
        let points: [(x: Double, y: Double?)]

        /// Creates a line through points.
        ///
        /// - Parameters:
        ///   - name: the name in the legend.
        ///   - points: the points, in ascending order of x; a point whose y is nil interrupts the line.
        package init(_ name: String, _ points: [(x: Double, y: Double?)]) {
            (self.name, self.points) = (name, points)
        }

        /// Creates a line through one value for each layer, from the first to the last; nil for no value.
        package init(_ name: String, ofLayers values: [Double?]) {
            self.init(name, values.enumerated().map { (Double($0), $1) })
        }
    }

    /// How y values are scaled.
    package enum Scale {
        /// The given range.
        case linear(ClosedRange<Double>)
        /// The decades of the values; zeros are drawn on a line of their own below the lowest decade.
        case logarithmic
    }

    /// The unit of y values.
    package enum Unit {
        case number
        case bytes
    }

    /// What the chart shows.
    let title: String
    /// The title of the x axis.
    let xTitle: String
    /// The ends of the x axis.
    package let xRange: ClosedRange<Double>
    /// How y values are scaled.
    let scale: Scale
    /// The lines.
    let series: [Series]
    /// The unit of y values.
    package var unit = Unit.number
    /// Returns the label for a position on the x axis.
    package var xText: (Double) -> String = { countText(Int($0)) }
    /// A y value to draw as a dashed line across the chart.
    package var limit: (name: String, y: Double)?
    /// An x value to draw as a vertical line.
    package var mark: (name: String, x: Double)?
    /// The strips beneath the axis.
    package var strips: [LayerStrip] = []

    /// Creates a chart.
    ///
    /// - Parameters:
    ///   - title: what the chart shows.
    ///   - xTitle: the title of the x axis.
    ///   - xRange: the ends of the x axis.
    ///   - series: the lines.
    ///   - scale: how y values are scaled.
    package init(
        _ title: String, xTitle: String, xRange: ClosedRange<Double>, _ series: [Series], scale: Scale = .logarithmic
    ) {
        (self.title, self.xTitle, self.xRange, self.scale, self.series) = (title, xTitle, xRange, scale, series)
    }

    /// Creates a chart with an x axis of layers, and strips beneath it that show each layer's kind.
    ///
    /// - Parameters:
    ///   - title: what the chart shows.
    ///   - strips: the strips, each with the kinds of all layers.
    ///   - series: the lines.
    ///   - scale: how y values are scaled.
    package init(_ title: String, layers strips: [LayerStrip], _ series: [Series] = [], scale: Scale = .logarithmic) {
        let count = strips.map(\.kinds.count).max() ?? 0
        self.init(title, xTitle: "layer", xRange: -0.5...Double(max(1, count)) - 0.5, series, scale: scale)
        self.strips = strips
    }

    // MARK: Drawing

    private static let width = 640.0
    private static let plotHeight = 190.0
    private static let x = (left: 76.0, right: 626.0)
    /// The maximum number of points in a line that is drawn with a marker at each point.
    private static let maximumMarkers = 64

    /// Draws the chart.
    ///
    /// - Parameter isAlone: whether the element is a standalone file, which needs its own styles, background and title.
    /// - Returns: the SVG element.
    package func svg(isAlone: Bool = false) -> String {
        var drawing = Drawing()
        var y = 4.0
        if isAlone {
            drawing.add(title, x: 16, y: 26, style: "title")
            y = 40
        }
        y = ChartLegend(entries: legend).draw(into: &drawing, x: Self.x, y: y) + 8
        if !series.isEmpty { y = drawPlot(into: &drawing, y: y) }
        for strip in strips {
            y += 5
            strip.draw(into: &drawing, x: Self.x, y: y)
            y += LayerStrip.height - 5
        }
        y += 16
        for tick in xTicks {
            drawing.addCentred(xText(tick), x: place(x: tick), y: y, within: 0...Self.width, style: "quiet")
        }
        y += 18
        ChartLegend(entries: kindLegend).draw(into: &drawing, x: Self.x, y: y - 14)
        drawing.add(xTitle, x: (Self.x.left + Self.x.right) / 2, y: y, anchor: "middle", style: "quiet")
        y += isAlone ? 16 : 6
        let size = "\(Self.width) \(y)"
        let alone =
            isAlone
            ? """

            <style>
            \(PageStyle.colours)
            \(PageStyle.chart)
            </style>
            <rect width="100%" height="100%" fill="white" class="page"/>
            """ : ""
        return """
            <svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 \(size)" role="img" font-size="12">
            <title>\(title.escapedXML)</title>\(alone)
            \(drawing.markup)
            </svg>

            """
    }

    private var legend: [(sample: ChartLegend.Sample, name: String)] {
        var entries = series.enumerated().map { (sample: ChartLegend.Sample.series($0), name: $1.name) }
        if let limit { entries.append((.limit, limit.name)) }
        if values.contains(where: { !$0.isFinite }) { entries.append((.notFinite, "infinite or NaN")) }
        return entries
    }

    /// The legend of the strips, which is below them.
    private var kindLegend: [(sample: ChartLegend.Sample, name: String)] {
        let kinds = Set(strips.flatMap(\.kinds))
        return LayerKind.allCases.filter(kinds.contains).map { (.kind($0), $0.rawValue) }
    }

    private var values: [Double] { series.flatMap { $0.points.compactMap(\.y) } }

    private func place(x: Double) -> Double {
        Self.x.left + (Self.x.right - Self.x.left) * (x - xRange.lowerBound) / (xRange.upperBound - xRange.lowerBound)
    }

    /// Draws the axis and the lines, and returns the y coordinate of their lower end.
    private func drawPlot(into drawing: inout Drawing, y start: Double) -> Double {
        var top = start
        if let mark {
            let x = place(x: mark.x)
            drawing.addCentred(mark.name, x: x, y: top + 8, within: Self.x.left...Self.x.right)
            top += 20
            drawing.addLine(x: (x, x), y: (top - 6, top + Self.plotHeight), style: "mark")
        }
        let bottom = top + Self.plotHeight
        // The scale also covers a decade below the limit.
        let axis = VerticalAxis(scale, values + (limit.map { [$0.y, $0.y / 10] } ?? []))
        let zero = axis.hasZeroLine ? bottom + 22 : bottom
        for tick in axis.ticks {
            let y = bottom - Self.plotHeight * tick.place
            drawTick(tickText(tick.number), y: y, style: tick.place == 0 ? "axis" : "rule", into: &drawing)
        }
        if axis.hasZeroLine { drawTick("0", y: zero, style: "axis", into: &drawing) }
        func height(_ value: Double) -> Double {
            switch axis.place(of: value) {
            case .onScale(let place): bottom - Self.plotHeight * place
            case .zero: zero
            case .notFinite: top
            }
        }
        if let limit {
            drawing.addLine(x: (Self.x.left, Self.x.right), y: (height(limit.y), height(limit.y)), style: "limit")
        }
        for (number, line) in series.enumerated() {
            drawing.beginSeries(number)
            for part in line.parts(on: axis) {
                let points = part.map { (x: place(x: $0.x), y: height($0.y)) }
                if points.count > 1 { drawing.addLine(through: points) }
                guard line.points.count <= Self.maximumMarkers || points.count == 1 else { continue }
                for (point, value) in zip(points, part) {
                    let title = "\(line.name), \(xTitle) \(xText(value.x)): \(text(value.y))"
                    if value.y.isFinite {
                        drawing.addMarker(ofSeries: number, x: point.x, y: point.y, title: title)
                    } else {
                        drawing.addCross(x: point.x, y: point.y, title: title)
                    }
                }
            }
            drawing.endGroup()
        }
        return zero + 2
    }

    private func drawTick(_ text: String, y: Double, style: String, into drawing: inout Drawing) {
        drawing.addLine(x: (Self.x.left, Self.x.right), y: (y, y), style: style)
        drawing.add(text, x: Self.x.left - 8, y: y + 4, anchor: "end", style: "quiet")
    }

    private func text(_ value: Double) -> String {
        switch unit {
        case .number: valueText(value)
        case .bytes: Int(exactly: value).map(byteText) ?? valueText(value)
        }
    }

    private func tickText(_ number: Double) -> String {
        guard case .logarithmic = scale else { return shortText(number) }
        switch unit {
        case .number: return "10" + String("\(Int(number))".map { Self.superscripts[$0] ?? $0 })
        case .bytes:
            let count = (0..<max(0, Int(number))).reduce(1) { power, _ in power.multiplied(clamped: 10) }
            return byteText(count).replacing(".00", with: "").replacing(".0", with: "")
        }
    }

    private static let superscripts: [Character: Character] = [
        "-": "⁻", "0": "⁰", "1": "¹", "2": "²", "3": "³", "4": "⁴", "5": "⁵", "6": "⁶", "7": "⁷", "8": "⁸", "9": "⁹",
    ]

    /// The whole numbers to label on the x axis: at a round interval, and as many as there is room for.
    private var xTicks: [Double] {
        let (first, last) = (xRange.lowerBound.rounded(.up), xRange.upperBound.rounded(.down))
        let widest = max(Drawing.width(of: xText(first)), Drawing.width(of: xText(last))) + 14
        let most = max(1, (Self.x.right - Self.x.left) / widest)
        var unit = 1.0
        while true {
            for step in [unit, 2 * unit, 5 * unit] where step * most >= xRange.upperBound - xRange.lowerBound {
                return Array(stride(from: first, through: last, by: step))
            }
            unit *= 10
        }
    }
}

extension Chart.Series {
    /// The parts of the line that are drawn without a gap.
    ///
    /// Each consists of values on the scale, of zeros below it, or of a single value that is not finite.
    fileprivate func parts(on axis: VerticalAxis) -> [[(x: Double, y: Double)]] {
        enum Row { case scale, zero }
        var parts: [[(x: Double, y: Double)]] = []
        var row: Row?
        for point in points {
            guard let y = point.y else {
                row = nil
                continue
            }
            let next: Row? =
                switch axis.place(of: y) {
                case .onScale: .scale
                case .zero: .zero
                case .notFinite: nil
                }
            if next == nil || next != row { parts.append([]) }
            parts[parts.count - 1].append((point.x, y))
            row = next
        }
        return parts
    }
}
