import CheckpointJSON

/// Columns of text under each other; nothing is padded at the end of a line.
struct TextTable {
    enum Alignment {
        case left
        case right
    }

    private struct Cell {
        let text: String
        let width: Int32
    }

    private let alignments: [Alignment]
    private var widths: [Int32]
    /// Row by row; the titles first, where there are any.
    private var cells: [Cell] = []

    /// A table with one title a column; without any title it has no line for them.
    init(_ columns: [(title: String, alignment: Alignment)], rowCount: Int = 0) {
        alignments = columns.map(\.alignment)
        widths = columns.map { _ in 0 }
        cells.reserveCapacity((rowCount + 1) * columns.count)
        if columns.contains(where: { !$0.title.isEmpty }) { columns.forEach { append($0.title) } }
    }

    /// Adds a cell: the next in its row, or the first of the next row.
    mutating func append(_ text: String) {
        let column = cells.count % widths.count
        let width = Int32(clamping: text.isPlain ? text.utf8.count : text.count)
        widths[column] = max(widths[column], width)
        cells.append(Cell(text: text, width: width))
    }

    func write(to output: inout ByteOutput, indent: Int = 0) {
        for start in stride(from: 0, to: cells.count, by: widths.count) {
            // Spaces wait until there is something behind them.
            var spaces = indent
            for column in widths.indices {
                let cell = cells[start + column]
                let padding = Int(widths[column] - cell.width)
                if alignments[column] == .right { spaces += padding }
                if cell.width > 0 {
                    output.write(spaces: spaces)
                    output.write(cell.text)
                    spaces = 0
                }
                if alignments[column] == .left { spaces += padding }
                spaces += 2
            }
            output.write("\n")
        }
    }
}
