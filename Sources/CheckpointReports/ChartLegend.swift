import ModelFamilies

/// A legend of a chart, in as many rows as it needs.
struct ChartLegend {
    /// What an entry of the legend explains.
    enum Sample {
        case series(Int)
        case limit
        case notFinite
        case kind(LayerKind)

        /// The distance from the start of the sample to its name.
        var width: Double { if case .kind = self { 21 } else { 30 } }
    }

    private static let rowHeight = 20.0

    let entries: [(sample: Sample, name: String)]

    /// Draws the legend between the given ends, and returns the y coordinate of its lower end.
    @discardableResult
    func draw(into drawing: inout Drawing, x: (left: Double, right: Double), y: Double) -> Double {
        var place = (x: x.left, y: y)
        for (sample, name) in entries {
            let name = name.count > 70 ? name.prefix(69) + "…" : name
            let width = sample.width + Drawing.width(of: name) + 18
            if place.x > x.left, place.x + width > x.right { place = (x.left, place.y + Self.rowHeight) }
            draw(sample, into: &drawing, x: place.x, y: place.y)
            drawing.add(name, x: place.x + sample.width, y: place.y + 14)
            place.x += width
        }
        return entries.isEmpty ? y : place.y + Self.rowHeight
    }

    private func draw(_ sample: Sample, into drawing: inout Drawing, x: Double, y: Double) {
        let middle = y + 10
        switch sample {
        case .series(let number):
            drawing.beginSeries(number)
            drawing.addLine(through: [(x, middle), (x + 24, middle)])
            drawing.addMarker(ofSeries: number, x: x + 12, y: middle)
            drawing.endGroup()
        case .limit: drawing.addLine(x: (x, x + 24), y: (middle, middle), style: "limit")
        case .notFinite: drawing.addCross(x: x + 12, y: middle)
        case .kind(let kind):
            drawing.addCell(kind.letter, x: x, y: y + 2.5, width: 15, style: kind.rawValue)
        }
    }
}
