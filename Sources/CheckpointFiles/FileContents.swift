import Bytes

/// The parsed headers of a checkpoint file.
protocol FileContents: Sendable {
    var format: FileFormat { get }
    /// The number of tensors. Their positions start at 0 and follow the order of their data in the file.
    var tensorCount: Int { get }
    /// The total size of the tensor data, in bytes. Bytes that tensors share are counted once.
    var dataByteCount: Int { get }
    /// The approximate amount of memory that the headers occupy while the file is open, in bytes.
    var headerByteCount: Int { get }
    /// The key-value pairs in the file's metadata.
    var metadata: [ByteString: String] { get }
    /// Warnings for the user, at most one of each kind.
    var warnings: [String] { get }
    /// The globals that the file's pickles name, without duplicates.
    var globals: [PickleGlobal] { get }
    /// Named tensors that are not stored as plain elements.
    var otherTensors: [OtherTensor] { get }
    /// The positions of tied tensors, in groups that share the same elements of one storage.
    var tied: [[Int]] { get }

    /// Returns the tensor at the given position, with `file` as its ``TensorInfo/file``.
    func tensor(at position: Int, file: Int) -> TensorInfo
    /// Returns the dtype and the size in bytes of the tensor at the given position.
    func size(at position: Int) -> (dtype: DType, byteCount: Int)
    /// Returns the UTF-8 name of the tensor at the given position.
    func name(at position: Int) -> ArraySlice<UInt8>
    /// Returns the position of the tensor with the given UTF-8 name; nil if there is none.
    func position(of name: ArraySlice<UInt8>) -> Int?
    /// Verifies the recorded checksum that covers the bytes of `tensor`, unless there is none or it has already been
    /// verified.
    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError)
    /// Returns the recorded CRC-32 of the bytes of `tensor`; nil if none is recorded for exactly these bytes.
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
    /// The tensor's name, flattened in the same way as ``TensorInfo/name``.
    public let name: String
    /// The kind of tensor, such as `sparse tensor (torch.sparse_coo)`.
    public let kind: String
    /// Whether ``Checkpoint/tensors`` also includes the tensor, because its elements can be read.
    public let isListed: Bool

    /// Returns whether all members are equal, comparing strings byte by byte.
    public static func == (a: OtherTensor, b: OtherTensor) -> Bool {
        a.isListed == b.isListed && ByteString(a.name) == ByteString(b.name) && ByteString(a.kind) == ByteString(b.kind)
    }
}
