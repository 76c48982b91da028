import ModelFamilies
import TestSupport
import Testing

@testable import CheckpointReports

/// Charts are SVG elements; these tests read them back.
@Suite struct ChartTests {
    private let kinds: [LayerKind] = [.rwkv7, .gqa, .rwkv7, .mha, .rwkv7]

    private func markup(
        _ values: [Double?], scale: Chart.Scale = .logarithmic, change: (inout Chart) -> Void = { _ in }
    ) throws -> Markup {
        var chart = Chart("errors", layers: [LayerStrip(kinds)], [.init("error", ofLayers: values)], scale: scale)
        change(&chart)
        return try Markup(chart.svg())
    }

    /// The titles of the markers of the first series, and where the markers are.
    private func markers(_ markup: Markup) -> [String: (x: Double, y: Double)] {
        var markers: [String: (x: Double, y: Double)] = [:]
        for path in markup.all("path", inside: "s0") where !path.text.isEmpty {
            let place = path.attributes["d"]?.dropFirst().prefix { $0 != "m" }.split(separator: " ").compactMap {
                Double($0)
            }
            if let place, place.count == 2 { markers[path.text] = (place[0], place[1]) }
        }
        return markers
    }

    private func tick(_ text: String, _ markup: Markup) -> Double? {
        markup.all("text").first { $0.text == text && $0.attributes["text-anchor"] == "end" }?.number("y")
    }

    @Test func zerosAreDrawnBelowTheLowestDecade() throws {
        let chart = try markup([0, 1, 0.001, 0, 0])
        let markers = markers(chart)
        let (zero, lowest) = (try #require(tick("0", chart)), try #require(tick("10⁻³", chart)))
        #expect(zero > lowest + 15)
        for layer in [0, 3, 4] { #expect(markers["error, layer \(layer): 0"]?.y == zero - 4) }
        #expect(markers["error, layer 2: 0.001"]?.y == lowest - 4)
        #expect(try markers["error, layer 1: 1"]?.y == #require(tick("10⁰", chart)) - 4)
        // A line between zero and a value on the scale would show values that no layer has.
        #expect(chart.all("polyline", inside: "s0").dropFirst().map { points($0).count } == [2, 2])
        #expect(try tick("0", markup([1, 0.001])) == nil)
    }

    @Test func onlyZerosAndNoValuesHaveAnAxisToo() throws {
        #expect(try markers(markup([0, 0])).count == 2)
        #expect(try tick("10⁰", markup([nil, nil])) != nil)
        #expect(try markers(markup([])).isEmpty)
    }

    @Test func valuesThatAreNotFiniteAreMarkedAtTheTop() throws {
        let chart = try markup([0.1, .nan, 0.01, .infinity, 0.1])
        let markers = markers(chart)
        let top = try #require(tick("10⁻¹", chart)) - 4
        #expect(markers["error, layer 1: NaN"]?.y == top && markers["error, layer 3: inf"]?.y == top)
        #expect(markers.count == 5)
        #expect(chart.all("polyline", inside: "s0").count == 1, "only the legend's")
        #expect(chart.all("text").contains { $0.text == "infinite or NaN" })
        #expect(try !markup([0.1]).all("text").contains { $0.text == "infinite or NaN" })
    }

    @Test func missingValuesInterruptTheLine() throws {
        let lines = try markup([0.1, 0.2, nil, 0.3, 0.4]).all("polyline", inside: "s0").dropFirst().map(points)
        #expect(lines.map(\.count) == [2, 2])
        #expect(lines[0][1].x < lines[1][0].x)
        // A point between gaps has a marker, even in a line too long for markers.
        var values = [Double?](repeating: 1, count: 200)
        values[99] = nil
        values[101] = nil
        #expect(try markers(markup(values)).keys.sorted() == ["error, layer 100: 1"])
    }

    @Test func aLinearScaleClampsValuesToItsRange() throws {
        let chart = try markup([-1, 0, 0.5, 1.0000001], scale: .linear(0...1))
        let markers = markers(chart)
        #expect(markers["error, layer 0: -1"]?.y == markers["error, layer 1: 0"]?.y)
        #expect(try markers["error, layer 3: 1"]?.y == #require(tick("1", chart)) - 4)
        #expect(tick("0.5", chart) != nil)
    }

    @Test func limitsAndMarksAreDrawnAndNamed() throws {
        let chart = try markup([0.1, 0.2]) {
            $0.limit = ("block limit", 1e-3)
            $0.mark = ("first divergence: mixer", 1)
        }
        let limit = try #require(chart.all("line").last { $0.attributes["class"] == "limit" && $0.number("x1") == 76 })
        #expect(try limit.number("y1") == #require(tick("10⁻³", chart)) - 4)
        #expect(tick("10⁻⁴", chart) != nil, "the axis goes below the limit")
        let mark = try #require(chart.all("line").first { $0.attributes["class"] == "mark" })
        #expect(mark.number("x1") == markers(chart)["error, layer 1: 0.2"]?.x)
        for name in ["block limit", "first divergence: mixer"] {
            #expect(chart.all("text").contains { $0.text == name })
        }
    }

    @Test func stripsShowTheKindOfEachLayer() throws {
        let chart = try markup([1, 2, 3, 4, 5])
        let cells = chart.all("rect").filter { $0.text.hasPrefix("layer ") }
        #expect(cells.map(\.text) == kinds.enumerated().map { "layer \($0): \($1.rawValue)" })
        // Each cell is centred below the point of its layer.
        #expect(
            abs(cells[1].number("x") + cells[1].number("width") / 2 - (markers(chart)["error, layer 1: 2"]?.x ?? 0)) < 1
        )
        for kind in Set(kinds) { #expect(chart.all("text").contains { $0.text == kind.rawValue }, "legend") }
        for kind in LayerKind.allCases {
            #expect(
                PageStyle.chart.contains(".\(kind.rawValue) rect") && PageStyle.chart.contains(".\(kind.rawValue) text")
            )
        }
        #expect(LayerStrip.comparing(reference: kinds, candidate: kinds).map(\.name) == [""])
        #expect(
            LayerStrip.comparing(reference: kinds, candidate: kinds.reversed() + [.gqa]).map(\.name) == [
                "reference", "candidate",
            ])
    }

    @Test func textIsEscapedAndStaysInsideTheChart() throws {
        let name = #"<b>"R&D"</b> "# + String(repeating: "long ", count: 60)
        let series = (0..<9).map { Chart.Series($0 == 4 ? name : "series \($0)", [(0, 1), (1_073_741_824, 2)]) }
        let svg = Chart(name, xTitle: "<step>", xRange: 0...1_073_741_824, series).svg(isAlone: true)
        #expect(!svg.contains("<b>") && !svg.contains("R&D"))
        let chart = try Markup(svg)
        #expect(chart.all("title")[0].text == name && chart.all("text").contains { $0.text == "<step>" })
        for text in chart.all("text") where text.attributes["class"] != "title" {
            let width = Drawing.width(of: text.text)
            let shift =
                switch text.attributes["text-anchor"] {
                case "middle": 0.5
                case "end": 1.0
                default: 0.0
                }
            let start = text.number("x") - width * shift
            #expect(start >= 0 && start + width <= 640, "\(text.text)")
        }
        // Every series differs from the others in its colour or its marker.
        let samples = chart.all("path").filter { $0.text.isEmpty }
        #expect(samples.count == 9)
    }

    @Test func aChartOfItsOwnHasItsColours() throws {
        let chart = Chart("loss", xTitle: "step", xRange: 0...1, [.init("loss", [(0, 1), (1, 0.5)])])
        #expect(chart.svg(isAlone: true).contains("prefers-color-scheme: dark"))
        #expect(!chart.svg().contains("<style>"))
    }

    private func points(_ line: Markup.Element) -> [(x: Double, y: Double)] {
        (line.attributes["points"] ?? "").split(separator: " ").map { point in
            let numbers = point.split(separator: ",").compactMap { Double($0) }
            return (numbers[0], numbers[1])
        }
    }
}
