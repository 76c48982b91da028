public import Bytes
import CRWKVKernels
import Glibc
import Synchronization

/// In-memory access to the tensors of a checkpoint.
///
/// Tensors that are contiguous and aligned in a file on disk are memory-mapped. All other tensors are read into
/// buffers.
///
/// Mapped files are paged in on demand and can be larger than memory.
public final class TensorMemory: Sendable {
    private let checkpoint: Checkpoint
    private let mappings: Mutex<[Int: MappedFile]>

    /// The bytes of a tensor, which are valid for as long as `owner` exists.
    public struct Bytes: @unchecked Sendable {
        /// A pointer to the elements, which are row-major, little-endian and aligned for their type.
        public let start: UnsafeRawPointer
        /// The object that keeps the bytes in memory.
        public let owner: any AnyObject & Sendable
    }

    /// Creates an object that gives access to the tensors of a checkpoint.
    ///
    /// Tensors are mapped or read only when ``bytes(of:)`` is called.
    public init(_ checkpoint: Checkpoint) {
        self.checkpoint = checkpoint
        mappings = Mutex([:])
    }

    /// Maps or reads the bytes of a tensor, and verifies their checksum if one is recorded.
    ///
    /// - Parameter tensor: a tensor of the checkpoint.
    /// - Returns: the tensor's bytes.
    /// - Throws: `CheckpointError`: `inputOutput`, or `malformed` if the checksum is wrong.
    public func bytes(of tensor: TensorInfo) throws(CheckpointError) -> Bytes {
        let file = checkpoint.files[tensor.file]
        let isAligned = tensor.byteRange.lowerBound % max(1, tensor.dtype.bitWidth / 8) == 0
        if tensor.isContiguous, isAligned, tensor.byteCount > 0, let source = file.source as? FileSource {
            try file.contents.verify(tensor, in: source)
            let mapping = try mappings.withLock { mappings throws(CheckpointError) in
                if let mapping = mappings[tensor.file] { return mapping }
                let mapping = try MappedFile(source)
                mappings[tensor.file] = mapping
                return mapping
            }
            return Bytes(start: mapping.start + tensor.byteRange.lowerBound, owner: mapping)
        }
        let buffer = OwnedBytes(count: tensor.byteCount)
        var span = MutableRawSpan(_unsafeBytes: buffer.bytes)
        try checkpoint.read(tensor, at: 0, into: &span)
        return Bytes(start: UnsafeRawPointer(buffer.start), owner: buffer)
    }

    /// Checks that no mapped file has been changed or truncated since it was mapped.
    ///
    /// - Throws: `CheckpointError` of category `inputOutput` if a mapped file has been changed or truncated.
    public func check() throws(CheckpointError) {
        for mapping in mappings.withLock({ Array($0.values) }) {
            if let change = mapping.change { throw CheckpointError(.inputOutput, path: mapping.path, change) }
        }
    }
}

/// A memory mapping of an entire file.
private final class MappedFile: @unchecked Sendable {
    let start: UnsafeRawPointer
    private let source: FileSource
    private let slot: CInt
    private let changed: timespec

    init(_ source: FileSource) throws(CheckpointError) {
        var slot: CInt = 0
        guard let start = rwkv_map(source.descriptor, source.count, &slot) else {
            throw systemError(errno, path: source.path, "cannot be mapped", category: .inputOutput)
        }
        self.start = start
        self.slot = slot
        self.source = source
        var status = stat()
        fstat(source.descriptor, &status)
        changed = status.st_mtim
    }

    deinit { rwkv_unmap(start, source.count, slot) }

    var path: String { source.path }

    /// A description of how the file has changed since it was mapped; nil if it is unchanged.
    ///
    /// The size is checked too, because after a truncation the rest of the last page reads as zeros without raising a
    /// signal.
    var change: String? {
        var status = stat()
        guard rwkv_mapping_is_cut(slot) == 0, fstat(source.descriptor, &status) == 0, status.st_size >= source.count
        else { return "the file was truncated, or could not be read, while it was in use" }
        let isSame = status.st_mtim.tv_sec == changed.tv_sec && status.st_mtim.tv_nsec == changed.tv_nsec
        return isSame ? nil : "the file was changed while it was in use"
    }
}

private final class OwnedBytes: @unchecked Sendable {
    let start: UnsafeMutableRawPointer
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) {
        start = .allocate(byteCount: max(1, count), alignment: 64)
        bytes = UnsafeMutableRawBufferPointer(start: start, count: count)
    }

    deinit { start.deallocate() }
}
