import LayerPlanning

extension PlanReport {
    /// The report as a self-contained HTML page.
    public var html: String {
        var page = Page("plan", verdict: "\(plan.teacher.family) to \(plan.target), \(countText(kinds.count, "layer"))")
        page.addFacts([("teacher", "\(path) (\(plan.teacher.family))"), ("student", plan.target)])
        page.addHeading("Layers: \(kinds.counts)")
        page.addChart(Chart("layer kinds", layers: [LayerStrip(kinds)]))
        if plan.attentionLayers.isEmpty {
            page.addParagraph("No layer keeps attention.")
        } else {
            page.addTable(["layer", "kind", "why"], textColumns: [1, 2], attentionRows)
        }
        if !plan.dropped.isEmpty {
            page.addHeading("What time mixing changes")
            page.addList(droppedTexts)
        }
        page.addHeading("Cost")
        page.addTable(["", "teacher", "student", ""], textColumns: [0, 3], costRows)
        if let memory {
            page.addHeading("Cache and state by context length")
            page.addChart(memory)
            page.addTable(
                ["tokens", "teacher", "student"], textColumns: [],
                Self.contexts.map { [countText($0), byteText(teacherBytes($0)), byteText(studentBytes($0))] })
        }
        page.addHeading("Choices")
        page.addFacts(choices)
        return page.html
    }

    /// A chart of cache and state by context length, or nil if the teacher has neither.
    private var memory: Chart? {
        guard teacherBytes(1) > 0 else { return nil }
        let exponents = 10...20
        func series(_ name: String, _ bytes: (Int) -> Int) -> Chart.Series {
            Chart.Series(name, exponents.map { (Double($0), Double(bytes(1 << $0))) })
        }
        var chart = Chart(
            "cache and state by context length", xTitle: "tokens of context", xRange: 9.75...20.25,
            [series("teacher", teacherBytes), series("student", studentBytes)])
        chart.unit = .bytes
        chart.xText = { countText(1 << Int($0)) }
        let place = decimalLogarithm(Double(context)) / decimalLogarithm(2)
        if chart.xRange.contains(place) { chart.mark = ("\(countText(context)) tokens", place) }
        return chart
    }
}
