import CheckpointJSON

/// Columns of text under each other; nothing is padded at the end of a line.
struct TextTable {
    enum Alignment {
        case left
        case right
    }

    private let alignments: [Alignment]
    private var widths: [Int]
    /// Row by row; the titles first, where there are any.
    private var cells: [String] = []

    /// A table with one title a column; without any title it has no line for them.
    init(_ columns: [(title: String, alignment: Alignment)]) {
        alignments = columns.map(\.alignment)
        widths = columns.map { _ in 0 }
        if columns.contains(where: { !$0.title.isEmpty }) { append(columns.map(\.title)) }
    }

    /// Adds a row of as many cells as there are columns.
    mutating func append(_ row: [String]) {
        for (column, cell) in row.enumerated() { widths[column] = max(widths[column], width(of: cell)) }
        cells += row
    }

    func write(to output: inout ByteOutput, indent: Int = 0) {
        for start in stride(from: 0, to: cells.count, by: widths.count) {
            // Spaces wait until there is something behind them.
            var spaces = indent
            for column in widths.indices {
                let cell = cells[start + column]
                let padding = widths[column] - width(of: cell)
                if alignments[column] == .right { spaces += padding }
                if !cell.isEmpty {
                    for _ in 0..<spaces { output.write(byte: UInt8(ascii: " ")) }
                    output.write(cell)
                    spaces = 0
                }
                if alignments[column] == .left { spaces += padding }
                spaces += 2
            }
            output.write("\n")
        }
    }

    private func width(of cell: String) -> Int {
        cell.isPlain ? cell.utf8.count : cell.count
    }
}
