package import Bytes

/// A table of text with aligned columns and no trailing spaces.
package struct TextTable {
    package enum Alignment {
        case left
        case right
    }

    private struct Cell {
        let byteCount: Int32
        let width: Int32
    }

    private let alignments: [Alignment]
    private var widths: [Int32]
    /// The text of all cells, concatenated.
    private var text: [UInt8] = []
    /// The cells in row-major order, starting with the titles if there are any.
    private var cells: [Cell] = []

    /// Creates a table with the given columns.
    ///
    /// If all titles are empty, the table has no title row.
    package init(_ columns: [(title: String, alignment: Alignment)], rowCount: Int = 0) {
        alignments = columns.map(\.alignment)
        widths = columns.map { _ in 0 }
        cells.reserveCapacity((rowCount + 1) * columns.count)
        // Growing the array would copy the text repeatedly, whereas reserved pages that are never used cost nothing.
        text.reserveCapacity(rowCount * 128)
        if columns.contains(where: { !$0.title.isEmpty }) { columns.forEach { append($0.title) } }
    }

    /// Appends a cell to the current row, or to a new row if the current row is complete.
    package mutating func append(_ cell: String) {
        append(cell, width: cell.isPlain ? cell.utf8.count : cell.count)
    }

    /// Appends a cell that contains only printable ASCII characters.
    package mutating func append(plain cell: String) { append(cell, width: cell.utf8.count) }

    private mutating func append(_ cell: String, width count: Int) {
        let column = cells.count % widths.count
        let width = Int32(clamping: count)
        widths[column] = max(widths[column], width)
        text.append(contentsOf: cell.utf8)
        cells.append(Cell(byteCount: Int32(clamping: cell.utf8.count), width: width))
    }

    package func write(to output: inout ByteOutput, indent: Int = 0) {
        var textStart = 0
        for start in stride(from: 0, to: cells.count, by: widths.count) {
            // Spaces are written only before a cell that is not empty.
            var spaces = indent
            for column in widths.indices {
                let cell = cells[start + column]
                let padding = Int(widths[column] - cell.width)
                if alignments[column] == .right { spaces += padding }
                if cell.width > 0 {
                    output.write(spaces: spaces)
                    output.write(text[textStart..<textStart + Int(cell.byteCount)])
                    spaces = 0
                }
                textStart += Int(cell.byteCount)
                if alignments[column] == .left { spaces += padding }
                spaces += 2
            }
            output.write("\n")
        }
    }
}
