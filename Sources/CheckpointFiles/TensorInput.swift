import CRWKVKernels

/// One tensor read front to back, once: a checksum is held against what was read, at the end.
///
/// ``Checkpoint/read(_:at:into:)`` reads anywhere, and a tensor that has a checksum a second time before that.
public struct TensorInput: ~Copyable {
    private let checkpoint: Checkpoint
    private let tensor: TensorInfo
    /// The checksum that all bytes together must have, where that is to be seen here.
    private let expected: UInt32?
    private var checksum: UInt32 = 0
    private var position = 0

    /// Begins at the start of a tensor of a checkpoint.
    public init(_ tensor: TensorInfo, of checkpoint: Checkpoint) {
        self.checkpoint = checkpoint
        self.tensor = tensor
        expected = checkpoint.files[tensor.file].contents.checksum(of: tensor)
    }

    /// Fills `buffer` with the bytes that come next, whole elements of them.
    ///
    /// - Throws: as ``Checkpoint/read(_:at:into:)`` does.
    public mutating func read(into buffer: UnsafeMutableRawBufferPointer) throws(CheckpointError) {
        var span = MutableRawSpan(_unsafeBytes: buffer)
        defer { position += buffer.count }
        guard expected != nil else { return try checkpoint.read(tensor, at: position, into: &span) }
        try checkpoint.files[tensor.file].source.read(into: &span, at: tensor.byteRange.lowerBound + position)
        checksum = rwkv_crc32(checksum, buffer.baseAddress, buffer.count)
    }

    /// Ends the reading, when all bytes were read.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` where they do not have their checksum.
    public consuming func finish() throws(CheckpointError) {
        guard let expected, checksum != expected, position == tensor.byteCount else { return }
        throw wrongChecksum(
            of: tensor.name, in: checkpoint.files[tensor.file].path, at: tensor.byteRange.lowerBound, expected, checksum
        )
    }
}

/// The error for bytes that are not what they were when they were written.
func wrongChecksum(
    of tensor: String, in path: String, at offset: Int, _ expected: UInt32, _ found: UInt32
) -> CheckpointError {
    CheckpointError(
        .malformed, path: path, "the checksum of the tensor's storage is wrong: its bytes were changed",
        tensor: tensor, offset: offset, expected: String(expected, radix: 16), found: String(found, radix: 16))
}
