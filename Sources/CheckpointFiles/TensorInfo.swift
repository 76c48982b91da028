/// One tensor of a checkpoint: what it is and where its bytes are.
public struct TensorInfo: Sendable {
    /// The name as stored; nested dictionaries and lists are flattened with dots.
    ///
    /// Compare names by their bytes (`utf8`): `==` takes different spellings of one character as equal.
    public let name: String
    /// The type of the elements.
    public let dtype: DType
    /// The dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// The index in ``Checkpoint/files`` of the file that holds it.
    public let file: Int
    /// Where its bytes are in that file, from the file's start: little-endian, in row-major order.
    ///
    /// One that is not contiguous shares this range with elements that are not its own, or uses some of them more than once.
    public let byteRange: Range<Int>
    /// How many bytes its elements take in row-major order.
    public let byteCount: Int

    /// How the elements lie, where they do not lie in row-major order.
    let view: StridedView?
    /// The number of the storage in its file whose checksum covers it, where there is one.
    let storage: Int?

    /// Whether its elements lie in the file in row-major order, without others between them.
    public var isContiguous: Bool { view == nil }

    /// The number of elements.
    public var elementCount: Int { dtype.elementCount(ofBytes: byteCount) }

    /// The matrix with rows for columns; nil where it is no matrix of whole bytes.
    public var transposed: TensorInfo? {
        guard shape.count == 2, dtype.bitWidth % 8 == 0 else { return nil }
        let size = dtype.bitWidth / 8
        var view =
            self.view
            ?? StridedView(shape: shape, strides: [shape[1], 1], elementSize: size, start: byteRange.lowerBound)
        view.shape.reverse()
        view.strides.reverse()
        return TensorInfo(name: name, dtype: dtype, shape: view.shape, file: file, view: view, storage: storage)
    }

    /// Some rows of the matrix; nil where it is no matrix of whole bytes, or has no such rows.
    public func rows(_ rows: Range<Int>) -> TensorInfo? {
        guard shape.count == 2, dtype.bitWidth % 8 == 0, rows.lowerBound >= 0, rows.upperBound <= shape[0] else {
            return nil
        }
        let size = dtype.bitWidth / 8
        guard view != nil || storage != nil else {
            let start = byteRange.lowerBound + rows.lowerBound * shape[1] * size
            return TensorInfo(
                name: name, dtype: dtype, shape: [rows.count, shape[1]], file: file,
                byteRange: start..<start + rows.count * shape[1] * size)
        }
        var view =
            self.view
            ?? StridedView(shape: shape, strides: [shape[1], 1], elementSize: size, start: byteRange.lowerBound)
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
