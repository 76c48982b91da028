import CheckpointJSON

/// Columns of text under each other; the last cell of a row is never padded.
struct TextTable {
    enum Alignment {
        case left
        case right
    }

    private let alignments: [Alignment]
    private let header: [String]
    private var widths: [Int]
    private var rows: [[String]] = []

    /// A table with one title a column; empty titles everywhere make a table without a title line.
    init(_ columns: [(title: String, alignment: Alignment)]) {
        alignments = columns.map(\.alignment)
        header = columns.map(\.title)
        widths = header.map(\.unicodeScalars.count)
    }

    mutating func append(_ row: [String]) {
        for (column, cell) in row.enumerated() { widths[column] = max(widths[column], width(of: cell)) }
        rows.append(row)
    }

    func write(to output: inout ByteOutput, indent: String = "") {
        if header.contains(where: { !$0.isEmpty }) { write(header, to: &output, indent) }
        for row in rows { write(row, to: &output, indent) }
    }

    private func write(_ row: [String], to output: inout ByteOutput, _ indent: String) {
        var line = indent
        var isEmpty = true
        // Padding waits until there is something behind it.
        var padding = 0
        for (column, cell) in row.enumerated() {
            if column > 0 { padding += 2 }
            let space = widths[column] - width(of: cell)
            if alignments[column] == .right { padding += space }
            if !cell.isEmpty {
                line += String(repeating: " ", count: padding) + cell
                padding = 0
                isEmpty = false
            }
            if alignments[column] == .left { padding += space }
        }
        output.write((isEmpty ? "" : line) + "\n")
    }

    private func width(of cell: String) -> Int {
        let bytes = cell.utf8
        return bytes.allSatisfy { $0 < 0x80 } ? bytes.count : cell.unicodeScalars.count
    }
}
