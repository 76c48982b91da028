public import Bytes
import CRWKVKernels

/// A reader that reads a tensor once, from front to back, and verifies its checksum at the end.
///
/// ``Checkpoint/read(_:at:into:)`` can start at any offset. However, if the tensor has a checksum, that method must
/// first read all of its bytes to verify them.
public struct TensorInput: ~Copyable {
    private let checkpoint: Checkpoint
    private let tensor: TensorInfo
    /// The recorded checksum of the tensor's bytes; nil if there is none.
    private let expected: UInt32?
    private var checksum: UInt32 = 0
    private var position = 0

    /// Creates an input that starts at the beginning of a tensor.
    public init(_ tensor: TensorInfo, of checkpoint: Checkpoint) {
        self.checkpoint = checkpoint
        self.tensor = tensor
        expected = checkpoint.files[tensor.file].contents.checksum(of: tensor)
    }

    /// Fills `buffer` with the tensor's next bytes.
    ///
    /// The buffer's size must be a multiple of the element size.
    ///
    /// - Throws: the same errors as ``Checkpoint/read(_:at:into:)``.
    public mutating func read(into buffer: UnsafeMutableRawBufferPointer) throws(CheckpointError) {
        var span = MutableRawSpan(_unsafeBytes: buffer)
        defer { position += buffer.count }
        guard expected != nil else { return try checkpoint.read(tensor, at: position, into: &span) }
        try checkpoint.files[tensor.file].source.read(into: &span, at: tensor.byteRange.lowerBound + position)
        checksum = rwkv_crc32(checksum, buffer.baseAddress, buffer.count)
    }

    /// Finishes reading and, if all bytes have been read, verifies their checksum.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if the checksum is wrong.
    public consuming func finish() throws(CheckpointError) {
        guard let expected, checksum != expected, position == tensor.byteCount else { return }
        throw wrongChecksum(
            of: tensor.name, in: checkpoint.files[tensor.file].path, at: tensor.byteRange.lowerBound, expected, checksum
        )
    }
}

/// Returns the error for a storage whose bytes do not match their recorded checksum.
func wrongChecksum(
    of tensor: String, in path: String, at offset: Int, _ expected: UInt32, _ found: UInt32
) -> CheckpointError {
    CheckpointError(
        .malformed, path: path, "the checksum of the tensor's storage is wrong: its bytes were changed",
        tensor: tensor, offset: offset, expected: String(expected, radix: 16), found: String(found, radix: 16))
}
