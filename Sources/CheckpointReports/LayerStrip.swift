package import ModelFamilies

/// A row of cells beneath the axis of a chart, one for each layer, that shows the layers' kinds.
package struct LayerStrip {
    /// The text beside the row, which can be empty.
    let name: String
    /// The kinds of the layers, from first to last.
    let kinds: [LayerKind]

    /// Creates a strip.
    ///
    /// - Parameters:
    ///   - kinds: the kinds of the layers, from first to last.
    ///   - name: the text beside the row, which can be empty.
    package init(_ kinds: [LayerKind], name: String = "") {
        (self.name, self.kinds) = (name, kinds)
    }

    /// Returns one strip for each of two models, or a single strip if their layers are of the same kinds.
    package static func comparing(reference: [LayerKind], candidate: [LayerKind]) -> [LayerStrip] {
        reference == candidate
            ? [LayerStrip(candidate)]
            : [LayerStrip(reference, name: "reference"), LayerStrip(candidate, name: "candidate")]
    }

    /// The distance between strips.
    static let height = 19.0

    /// Draws the strip between the given ends.
    func draw(into drawing: inout Drawing, x: (left: Double, right: Double), y: Double) {
        let width = (x.right - x.left) / Double(max(1, kinds.count))
        if !name.isEmpty {
            drawing.add(name, x: x.left - 8, y: y + 11.5, anchor: "end", style: "quiet")
        }
        for (layer, kind) in kinds.enumerated() {
            // A gap between cells, unless they are too narrow for it.
            drawing.addCell(
                kind.letter, x: x.left + width * Double(layer), y: y, width: width > 4 ? width - 1 : width,
                style: kind.rawValue, title: "layer \(layer): \(kind.rawValue)")
        }
    }
}
