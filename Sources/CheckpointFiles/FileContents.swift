import CheckpointJSON

/// What a reader found in one file.
protocol FileContents: Sendable {
    var format: FileFormat { get }
    /// How many tensors there are; they have the positions from 0 on, in the order of their data.
    var tensorCount: Int { get }
    /// The bytes of all data, each counted once.
    var dataByteCount: Int { get }
    /// About how many bytes of memory the headers take as long as the file is open.
    var headerByteCount: Int { get }
    /// The file's metadata.
    var metadata: [ByteString: String] { get }
    /// Sentences for the user; at most one of a kind.
    var warnings: [String] { get }
    /// What its pickles name, each name once.
    var globals: [PickleGlobal] { get }
    /// The tensors that are more or less than elements in a file.
    var otherTensors: [OtherTensor] { get }
    /// Groups of positions whose tensors are the same elements of one storage.
    var tied: [[Int]] { get }

    /// The tensor at a position, which says that it is in file number `file`.
    func tensor(at position: Int, file: Int) -> TensorInfo
    /// What a total needs to know of the tensor at a position.
    func size(at position: Int) -> (dtype: DType, byteCount: Int)
    /// The name of the tensor at a position, as UTF-8.
    func name(at position: Int) -> ArraySlice<UInt8>
    /// The position of the tensor with this name.
    func position(of name: ArraySlice<UInt8>) -> Int?
    /// Holds the bytes of `tensor` against their checksum, where they have one and this was not done before.
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError)
    /// The CRC-32 of the bytes of `tensor`, where they have one of their own.
    func checksum(of tensor: TensorInfo) -> UInt32?
}

extension FileContents {
    var globals: [PickleGlobal] { [] }
    var otherTensors: [OtherTensor] { [] }
    var tied: [[Int]] { [] }
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError) {}
    func checksum(of tensor: TensorInfo) -> UInt32? { nil }
}

/// A tensor that is named but is not simply elements in a file.
public struct OtherTensor: Sendable, Equatable {
    /// Its name, flattened as those of ``TensorInfo``.
    public let name: String
    /// What it is: `sparse tensor (torch.sparse_coo)`.
    public let kind: String
    /// Whether it is listed among the tensors all the same, because its elements can be read.
    public let isListed: Bool

    /// Whether all is the same, texts by their bytes.
    public static func == (a: OtherTensor, b: OtherTensor) -> Bool {
        a.isListed == b.isListed && ByteString(a.name) == ByteString(b.name) && ByteString(a.kind) == ByteString(b.kind)
    }
}
