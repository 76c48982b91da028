import CRWKVKernels

/// A number type that models compute in: `Float`, or `Double` for reference results and gradient checks.
public protocol Real: BinaryFloatingPoint, BitwiseCopyable, Sendable {}

extension Real {
    /// The kernels' constant for stored elements of this type.
    static var stored: rwkv_element { MemoryLayout<Self>.size == 8 ? RWKV_ELEMENT_F64 : RWKV_ELEMENT_F32 }
    /// The kernels' constant for computing in this type.
    static var real: rwkv_real { MemoryLayout<Self>.size == 8 ? RWKV_REAL_F64 : RWKV_REAL_F32 }
}

extension Float: Real {}
extension Double: Real {}

/// A row-major matrix, usually with one row per token.
///
/// A matrix has reference semantics: an in-place change is visible through every reference to the matrix.
public final class Matrix<Element: Real> {
    /// The number of rows, which may be zero.
    public let rows: Int
    /// The number of columns.
    public let columns: Int
    let elements: UnsafeMutablePointer<Element>

    /// The number of elements.
    public var count: Int { rows * columns }

    /// Creates a matrix of uninitialised elements, which must be written before they are read.
    public init(rows: Int, columns: Int) {
        self.rows = rows
        self.columns = columns
        // The elements are aligned to cache lines, because a load that spans two cache lines takes twice as long.
        let bytes = UnsafeMutableRawPointer.allocate(
            byteCount: max(1, rows * columns) * MemoryLayout<Element>.stride, alignment: cacheLine)
        elements = bytes.bindMemory(to: Element.self, capacity: max(1, rows * columns))
    }

    /// Creates a matrix of zeros.
    public convenience init(zeros rows: Int, columns: Int) {
        self.init(rows: rows, columns: columns)
        clear()
    }

    /// Creates a matrix from its elements in row-major order.
    public convenience init(_ numbers: some Collection<Element>, columns: Int) {
        self.init(rows: numbers.count / columns, columns: columns)
        _ = UnsafeMutableBufferPointer(start: elements, count: count).initialize(from: numbers)
    }

    deinit { elements.deallocate() }

    /// All elements in row-major order.
    public var array: [Element] { Array(UnsafeBufferPointer(start: elements, count: count)) }

    /// Returns the elements of one row.
    public func row(_ row: Int) -> [Element] {
        precondition(0..<rows ~= row)
        return Array(UnsafeBufferPointer(start: elements + row * columns, count: columns))
    }

    /// Calls `body` with a buffer of all elements in row-major order; rethrows any error from `body`.
    public func withNumbers<Result, Failure: Error>(
        _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeBufferPointer(start: elements, count: count))
    }

    /// Calls `body` with a buffer of the elements of one row; rethrows any error from `body`.
    public func withRow<Result>(_ row: Int, _ body: (UnsafeBufferPointer<Element>) throws -> Result) rethrows -> Result
    {
        precondition(0..<rows ~= row)
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeBufferPointer(start: elements + row * columns, count: columns))
    }

    /// Returns a copy of the matrix with its own storage.
    public func copy() -> Matrix {
        let copy = Matrix(rows: rows, columns: columns)
        copy.elements.update(from: elements, count: count)
        return copy
    }

    /// Sets all elements to zero.
    public func clear() {
        UnsafeMutableRawPointer(elements).initializeMemory(
            as: UInt8.self, repeating: 0, count: count * MemoryLayout<Element>.stride)
    }

    /// Replaces rows, starting at row `start`, with all rows of another matrix.
    public func replaceRows(from start: Int, by other: Matrix) {
        precondition(other.columns == columns && start >= 0 && start + other.rows <= rows)
        (elements + start * columns).update(from: other.elements, count: other.count)
    }

    /// Returns a copy of a range of rows.
    public func rows(_ range: Range<Int>) -> Matrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows)
        let part = Matrix(rows: range.count, columns: columns)
        part.elements.update(from: elements + range.lowerBound * columns, count: part.count)
        return part
    }

    /// Adds all rows of another matrix to rows of this one, starting at row `start`.
    package func addRows(from start: Int, of other: Matrix) {
        precondition(other.columns == columns && start >= 0 && start + other.rows <= rows)
        for index in 0..<other.count { elements[start * columns + index] += other.elements[index] }
    }

    /// Replaces columns, starting at column `start`, with all columns of another matrix.
    public func replaceColumns(from start: Int, by other: Matrix) {
        precondition(other.rows == rows && start >= 0 && start + other.columns <= columns)
        for row in 0..<rows {
            (elements + row * columns + start).update(from: other.elements + row * other.columns, count: other.columns)
        }
    }

    /// Returns a copy of a range of columns.
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

/// The size of a cache line in bytes.
let cacheLine = 64

extension Array where Element: Real {
    /// Appends all elements of a matrix in row-major order.
    public mutating func append(_ matrix: Matrix<Element>) {
        append(contentsOf: UnsafeBufferPointer(start: matrix.elements, count: matrix.count))
    }
}
