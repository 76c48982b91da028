import CRWKVKernels
import Glibc
import Synchronization

/// A checkpoint's tensors in memory, for models that run: mapped from their files where they stand there row by row, read where not.
///
/// Mapped files are paged in when they are used, and may be larger than memory.
public final class TensorMemory: Sendable {
    private let checkpoint: Checkpoint
    private let mappings: Mutex<[Int: MappedFile]>

    /// The bytes of one tensor, which stay as long as `owner` lives.
    public struct Bytes: @unchecked Sendable {
        /// Row-major and little-endian, aligned for their type.
        public let start: UnsafeRawPointer
        /// What holds them.
        public let owner: any AnyObject & Sendable
    }

    /// The tensors of a checkpoint.
    public init(_ checkpoint: Checkpoint) {
        self.checkpoint = checkpoint
        mappings = Mutex([:])
    }

    /// The bytes of a tensor; those that have a checksum were held against it.
    ///
    /// - Parameter tensor: one of the checkpoint's.
    /// - Returns: the bytes.
    /// - Throws: ``CheckpointError``: `inputOutput`, or `malformed` where a checksum is wrong.
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

    /// Throws where a mapped file was changed, or has lost bytes that were used.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func check() throws(CheckpointError) {
        for mapping in mappings.withLock({ Array($0.values) }) {
            if let change = mapping.change { throw CheckpointError(.inputOutput, path: mapping.path, change) }
        }
    }
}

/// All of a file, mapped.
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

    /// What happened to the file since, where something did; behind its end its last page is zeros.
    var change: String? {
        var status = stat()
        guard rwkv_mapping_is_cut(slot) == 0, fstat(source.descriptor, &status) == 0, status.st_size >= source.count
        else { return "the file became shorter, or could not be read, while it was in use" }
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
