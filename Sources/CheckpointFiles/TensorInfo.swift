/// The name, dtype, shape and location of a tensor in a checkpoint.
public struct TensorInfo: Sendable {
    /// The tensor's name.
    ///
    /// Keys of nested dictionaries and lists are joined with dots.
    ///
    /// Compare names by their bytes (`utf8`), because `==` treats different encodings of the same character as equal.
    public let name: String
    /// The type of the elements.
    public let dtype: DType
    /// The dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// The index in ``Checkpoint/files`` of the file that contains the tensor.
    public let file: Int
    /// The range of bytes in the file that contains the tensor's elements, which are little-endian and in row-major
    /// order.
    ///
    /// If the tensor is not contiguous, its elements can be in another order in the file, be used more than once, or
    /// have other elements between them.
    public let byteRange: Range<Int>
    /// The size of the tensor in bytes when its elements are stored contiguously.
    public let byteCount: Int

    /// The strided view of a tensor that is not contiguous; nil if it is contiguous.
    let view: StridedView?
    /// The index of the storage whose checksum, if recorded, covers the tensor; nil for formats without storages.
    let storage: Int?

    /// Whether the file stores the elements in row-major order with no other elements between them.
    public var isContiguous: Bool { view == nil }

    /// The number of elements.
    public var elementCount: Int { dtype.elementCount(ofBytes: byteCount) }

    /// A view of the elements as a matrix, whose rows are those of all dimensions but the last.
    ///
    /// It is nil if the tensor has fewer than two dimensions, if it has more and is not contiguous, or if its elements
    /// are smaller than a byte.
    public var matrix: TensorInfo? {
        guard dtype.bitWidth % 8 == 0, shape.count == 2 || shape.count > 2 && isContiguous else { return nil }
        if shape.count == 2 { return self }
        let (rows, columns) = (shape.dropLast().reduce(1, *), shape[shape.count - 1])
        let view = StridedView(
            shape: [rows, columns], strides: [columns, 1], elementSize: dtype.bitWidth / 8, start: byteRange.lowerBound)
        return TensorInfo(name: name, dtype: dtype, shape: view.shape, file: file, view: view, storage: storage)
    }

    /// A transposed view of ``matrix``; nil if there is none.
    public var transposed: TensorInfo? {
        guard let matrix else { return nil }
        let (shape, size) = (matrix.shape, dtype.bitWidth / 8)
        var view =
            self.view
            ?? StridedView(shape: shape, strides: [shape[1], 1], elementSize: size, start: byteRange.lowerBound)
        view.shape.reverse()
        view.strides.reverse()
        return TensorInfo(name: name, dtype: dtype, shape: view.shape, file: file, view: view, storage: storage)
    }

    /// Returns a view of the given rows of a matrix or elements of a vector; nil if the tensor is neither or does not
    /// have them, or its elements are smaller than a byte.
    public func rows(_ rows: Range<Int>) -> TensorInfo? {
        guard 1...2 ~= shape.count, dtype.bitWidth % 8 == 0, rows.lowerBound >= 0, rows.upperBound <= shape[0] else {
            return nil
        }
        let (size, rest) = (dtype.bitWidth / 8, Array(shape.dropFirst()))
        guard view != nil || storage != nil else {
            let rowSize = size * (rest.first ?? 1)
            let start = byteRange.lowerBound + rows.lowerBound * rowSize
            return TensorInfo(
                name: name, dtype: dtype, shape: [rows.count] + rest, file: file,
                byteRange: start..<start + rows.count * rowSize)
        }
        var view =
            self.view
            ?? StridedView(shape: shape, strides: rest + [1], elementSize: size, start: byteRange.lowerBound)
        view.shape[0] = rows.count
        view.start += rows.lowerBound * view.strides[0] * size
        return TensorInfo(name: name, dtype: dtype, shape: view.shape, file: file, view: view, storage: storage)
    }

    init(name: String, dtype: DType, shape: [Int], file: Int, byteRange: Range<Int>) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.file = file
        self.byteRange = byteRange
        self.byteCount = byteRange.count
        self.view = nil
        self.storage = nil
    }

    init(name: String, dtype: DType, shape: [Int], file: Int, view: StridedView, storage: Int?) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.file = file
        self.byteRange = view.byteRange
        self.byteCount = view.byteCount
        self.view = view.isContiguous ? nil : view
        self.storage = storage
    }
}
