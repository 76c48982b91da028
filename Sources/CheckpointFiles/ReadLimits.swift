/// Limits on the contents of files, and on the resources needed to read them.
///
/// Files that exceed a limit are rejected, except where noted.
///
/// Each limit is checked before the corresponding memory is allocated. ``tensors``, ``headerBytes``,
/// ``pickledValueBytes`` and ``pickleMemoryBytes`` apply to all files of a checkpoint together. The other limits apply
/// to each file.
public struct ReadLimits: Sendable, Equatable {
    /// The maximum length of a safetensors header, in bytes.
    ///
    /// The reference implementation has the same limit.
    public var headerBytes = 100_000_000
    /// The maximum length of a shard index, in bytes.
    public var indexBytes = 100_000_000
    /// The maximum number of tensors in a checkpoint or an index.
    ///
    /// PyTorch files are further limited by ``pickleMemoryBytes``.
    public var tensors = 1_000_000
    /// The maximum length of a tensor's name, a metadata key or a file name in an index, in bytes as stored.
    public var nameBytes = 4096
    /// The maximum number of dimensions of a tensor.
    public var rank = 64
    /// The maximum number of entries in a file's metadata.
    public var metadataEntries = 100_000
    /// The maximum size of a file's metadata, keys and values together, in bytes.
    public var metadataBytes = 16_000_000
    /// The maximum number of files that an index can name.
    ///
    /// All of them stay open for as long as the checkpoint exists.
    public var shards = 1000
    /// The maximum length of a PyTorch checkpoint's pickle, in bytes.
    ///
    /// A tensor takes about 150 bytes.
    public var pickleBytes = 32_000_000
    /// The maximum memory for the values of a pickle, in bytes.
    ///
    /// A tensor takes about 250 bytes.
    public var pickledValueBytes = 40_000_000
    /// The maximum memory for opening PyTorch checkpoints, in bytes.
    ///
    /// It covers the archive's directory, the pickle, its values, and everything built from them. A tensor takes about
    /// 850 bytes, so a state_dict of 110,000 tensors can still be opened.
    public var pickleMemoryBytes = 100_000_000
    /// The maximum total size of a PyTorch file's tensors, in bytes, unless ``expandedRatio`` allows more.
    ///
    /// An element is counted every time a tensor uses it.
    public var expandedBytes = 1 << 30
    /// The maximum ratio of the total size of a PyTorch file's tensors to the file's size, unless ``expandedBytes``
    /// allows more.
    public var expandedRatio = 64
    /// The total size of a file's storages, in bytes, below which checksums are verified when the file is opened.
    ///
    /// In larger files, they are verified when tensors are read.
    public var checkedAtOpeningBytes = 64_000_000
    /// The maximum length of a zip archive's directory, in bytes.
    ///
    /// A record takes about 80 bytes.
    public var zipDirectoryBytes = 16_000_000

    /// The maximum window of a zstd frame, in bytes.
    ///
    /// Each thread that decompresses data can take this much memory.
    public var zstdWindowBytes = 1 << 25
    /// The maximum number of frames in a zstd file, including skippable ones.
    ///
    /// A seekable archive has about one frame per megabyte.
    public var zstdFrames = 50_000
    /// The maximum content size of a zstd frame, in bytes, for random access.
    ///
    /// A file with a longer frame is read sequentially.
    public var seekableFrameBytes = 1 << 24
    /// The maximum decompressed size of a compressed file, in bytes, unless ``unpackedRatio`` allows more.
    ///
    /// Some files are decompressed to disk before their contents can be checked. This limit prevents a file of a few
    /// kilobytes from filling the disk.
    public var unpackedBytes = 1 << 28
    /// The maximum ratio of the decompressed size of a file to its compressed size, unless ``unpackedBytes`` allows
    /// more.
    public var unpackedRatio = 64

    /// The default limits.
    public static let standard = ReadLimits()

    /// Reduces the limits by the number of tensors and the memory that `file` uses, so that they apply to the remaining
    /// files.
    mutating func take(_ file: CheckpointFile) {
        tensors -= file.tensorCount
        headerBytes = max(0, headerBytes - file.contents.headerByteCount)
        pickledValueBytes = max(0, pickledValueBytes - file.contents.headerByteCount)
        pickleMemoryBytes = max(0, pickleMemoryBytes - file.contents.headerByteCount)
    }
}
