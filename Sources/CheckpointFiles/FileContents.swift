import CheckpointJSON

/// The parsed headers of one file.
protocol FileContents: Sendable {
    var format: FileFormat { get }
    /// The number of tensors; positions count from 0 in the order of their data.
    var tensorCount: Int { get }
    /// The size of all tensor data in bytes, shared bytes counted once.
    var dataByteCount: Int { get }
    /// About how much memory the headers take while the file is open, in bytes.
    var headerByteCount: Int { get }
    /// The file's metadata.
    var metadata: [ByteString: String] { get }
    /// Warnings for the user, at most one of each kind.
    var warnings: [String] { get }
    /// The globals that the file's pickles name, each once.
    var globals: [PickleGlobal] { get }
    /// Named tensors that are not plain elements in the file.
    var otherTensors: [OtherTensor] { get }
    /// Groups of positions whose tensors are tied: the same elements of one storage.
    var tied: [[Int]] { get }

    /// The tensor at a position, with `file` as its ``TensorInfo/file``.
    func tensor(at position: Int, file: Int) -> TensorInfo
    /// The dtype and size in bytes of the tensor at a position.
    func size(at position: Int) -> (dtype: DType, byteCount: Int)
    /// The UTF-8 name of the tensor at a position.
    func name(at position: Int) -> ArraySlice<UInt8>
    /// The position of the tensor with this UTF-8 name; nil if there is none.
    func position(of name: ArraySlice<UInt8>) -> Int?
    /// Verifies the checksum of the bytes of `tensor`, if they have one and it was not verified before.
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError)
    /// The recorded CRC-32 of exactly the bytes of `tensor`; nil if there is none.
    func checksum(of tensor: TensorInfo) -> UInt32?
}

extension FileContents {
    var globals: [PickleGlobal] { [] }
    var otherTensors: [OtherTensor] { [] }
    var tied: [[Int]] { [] }
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError) {}
    func checksum(of tensor: TensorInfo) -> UInt32? { nil }
}

/// A named tensor that is not plain elements in a file, such as a sparse or quantised one.
public struct OtherTensor: Sendable, Equatable {
    /// The name, flattened like ``TensorInfo/name``.
    public let name: String
    /// What it is, such as `sparse tensor (torch.sparse_coo)`.
    public let kind: String
    /// Whether it is also listed among the tensors, because its elements can be read.
    public let isListed: Bool

    /// Compares all members, strings by their bytes.
    public static func == (a: OtherTensor, b: OtherTensor) -> Bool {
        a.isListed == b.isListed && ByteString(a.name) == ByteString(b.name) && ByteString(a.kind) == ByteString(b.kind)
    }
}
