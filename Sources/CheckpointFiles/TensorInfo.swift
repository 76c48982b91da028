/// One tensor of a checkpoint: what it is and where its bytes are.
public struct TensorInfo: Sendable {
    /// The name as stored.
    ///
    /// Compare names by their bytes (`utf8`): `==` takes different spellings of one character as equal.
    public let name: String
    /// The type of the elements.
    public let dtype: DType
    /// The dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// The index in ``Checkpoint/files`` of the file that holds it.
    public let file: Int
    /// Where its bytes are in that file, from the file's start: row-major, little-endian.
    public let byteRange: Range<Int>

    /// The number of elements.
    public var elementCount: Int { byteRange.count * 8 / dtype.bitWidth }
}
