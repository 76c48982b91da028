import CRWKVKernels

/// The numbers that a model computes in: `Float`, or `Double` for references and for gradients that are to be checked.
public protocol Real: BinaryFloatingPoint, BitwiseCopyable, Sendable {}

extension Real {
    /// Its type in a file.
    static var stored: rwkv_element { MemoryLayout<Self>.size == 8 ? RWKV_ELEMENT_F64 : RWKV_ELEMENT_F32 }
    /// Its type in kernels.
    static var real: rwkv_real { MemoryLayout<Self>.size == 8 ? RWKV_REAL_F64 : RWKV_REAL_F32 }
}

extension Float: Real {}
extension Double: Real {}

/// Rows of numbers one behind the other; most often a row for each token.
///
/// A reference: what is done to its numbers in place shows wherever it is held.
public final class Matrix<Element: Real> {
    /// How many rows there are; none is fine.
    public let rows: Int
    /// How many numbers a row has.
    public let columns: Int
    let elements: UnsafeMutablePointer<Element>

    /// How many numbers there are.
    public var count: Int { rows * columns }

    /// A matrix whose numbers are to be written before they are read.
    public init(rows: Int, columns: Int) {
        self.rows = rows
        self.columns = columns
        // Reading across two cache lines takes twice as long.
        let bytes = UnsafeMutableRawPointer.allocate(
            byteCount: max(1, rows * columns) * MemoryLayout<Element>.stride, alignment: cacheLine)
        elements = bytes.bindMemory(to: Element.self, capacity: max(1, rows * columns))
    }

    /// A matrix of zeros.
    public convenience init(zeros rows: Int, columns: Int) {
        self.init(rows: rows, columns: columns)
        clear()
    }

    /// A matrix of numbers given row by row.
    public convenience init(_ numbers: some Collection<Element>, columns: Int) {
        self.init(rows: numbers.count / columns, columns: columns)
        _ = UnsafeMutableBufferPointer(start: elements, count: count).initialize(from: numbers)
    }

    deinit { elements.deallocate() }

    /// All numbers, row by row.
    public var array: [Element] { Array(UnsafeBufferPointer(start: elements, count: count)) }

    /// The numbers of one row.
    public func row(_ row: Int) -> [Element] {
        precondition(0..<rows ~= row)
        return Array(UnsafeBufferPointer(start: elements + row * columns, count: columns))
    }

    /// Lends all numbers, row by row.
    public func withNumbers<Result, Failure: Error>(
        _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeBufferPointer(start: elements, count: count))
    }

    /// Lends a row's numbers.
    public func withRow<Result>(_ row: Int, _ body: (UnsafeBufferPointer<Element>) throws -> Result) rethrows -> Result
    {
        precondition(0..<rows ~= row)
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeBufferPointer(start: elements + row * columns, count: columns))
    }

    /// A matrix of its own with the same numbers.
    public func copy() -> Matrix {
        let copy = Matrix(rows: rows, columns: columns)
        copy.elements.update(from: elements, count: count)
        return copy
    }

    /// Makes all numbers zero.
    public func clear() {
        UnsafeMutableRawPointer(elements).initializeMemory(
            as: UInt8.self, repeating: 0, count: count * MemoryLayout<Element>.stride)
    }

    /// Puts another matrix' rows in the place of some of its own.
    public func replaceRows(from start: Int, by other: Matrix) {
        precondition(other.columns == columns && start >= 0 && start + other.rows <= rows)
        (elements + start * columns).update(from: other.elements, count: other.count)
    }

    /// Some of its rows as a matrix of their own.
    public func rows(_ range: Range<Int>) -> Matrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows)
        let part = Matrix(rows: range.count, columns: columns)
        part.elements.update(from: elements + range.lowerBound * columns, count: part.count)
        return part
    }

    /// Puts another matrix' columns in the place of some of its own.
    public func replaceColumns(from start: Int, by other: Matrix) {
        precondition(other.rows == rows && start >= 0 && start + other.columns <= columns)
        for row in 0..<rows {
            (elements + row * columns + start).update(from: other.elements + row * other.columns, count: other.columns)
        }
    }

    /// Some of its columns as a matrix of their own.
    public func columns(_ range: Range<Int>) -> Matrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= columns)
        let part = Matrix(rows: rows, columns: range.count)
        for row in 0..<rows {
            (part.elements + row * part.columns)
                .update(from: elements + row * columns + range.lowerBound, count: part.columns)
        }
        return part
    }
}

/// Bytes that processors read together.
let cacheLine = 64

extension Array where Element: Real {
    /// Puts a matrix's rows behind the numbers that are there.
    public mutating func append(_ matrix: Matrix<Element>) {
        append(contentsOf: UnsafeBufferPointer(start: matrix.elements, count: matrix.count))
    }
}
