import CheckpointJSON

/// The parsed headers of one file.
protocol FileContents: Sendable {
    var format: FileFormat { get }
    /// The number of tensors; their positions start at 0 and follow the order of their data.
    var tensorCount: Int { get }
    /// The size of all tensor data in bytes; shared bytes count once.
    var dataByteCount: Int { get }
    /// The approximate memory in bytes that the headers take while the file is open.
    var headerByteCount: Int { get }
    /// The file's metadata.
    var metadata: [ByteString: String] { get }
    /// Warnings for the user, at most one of each kind.
    var warnings: [String] { get }
    /// The globals that the file's pickles name, without duplicates.
    var globals: [PickleGlobal] { get }
    /// Named tensors that are not stored as plain elements.
    var otherTensors: [OtherTensor] { get }
    /// Groups of positions whose tensors are tied: they use the same elements of one storage.
    var tied: [[Int]] { get }

    /// Returns the tensor at a position, with `file` as its ``TensorInfo/file``.
    func tensor(at position: Int, file: Int) -> TensorInfo
    /// Returns the dtype and size in bytes of the tensor at a position.
    func size(at position: Int) -> (dtype: DType, byteCount: Int)
    /// Returns the UTF-8 name of the tensor at a position.
    func name(at position: Int) -> ArraySlice<UInt8>
    /// Returns the position of the tensor with this UTF-8 name; nil if there is none.
    func position(of name: ArraySlice<UInt8>) -> Int?
    /// Verifies the checksum of the bytes of `tensor`, if they have one that has not been verified yet.
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError)
    /// Returns the recorded CRC-32 of exactly the bytes of `tensor`; nil if there is none.
    func checksum(of tensor: TensorInfo) -> UInt32?
}

extension FileContents {
    var globals: [PickleGlobal] { [] }
    var otherTensors: [OtherTensor] { [] }
    var tied: [[Int]] { [] }
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError) {}
    func checksum(of tensor: TensorInfo) -> UInt32? { nil }
}

/// A named tensor that is not stored as plain elements, such as a sparse or quantised one.
public struct OtherTensor: Sendable, Equatable {
    /// The name, flattened like ``TensorInfo/name``.
    public let name: String
    /// The kind of tensor, such as `sparse tensor (torch.sparse_coo)`.
    public let kind: String
    /// Whether ``Checkpoint/tensors`` also includes the tensor, because its elements can be read.
    public let isListed: Bool

    /// Compares all members; strings are compared by their bytes.
    public static func == (a: OtherTensor, b: OtherTensor) -> Bool {
        a.isListed == b.isListed && ByteString(a.name) == ByteString(b.name) && ByteString(a.kind) == ByteString(b.kind)
    }
}
