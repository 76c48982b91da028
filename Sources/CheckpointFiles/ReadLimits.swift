/// Limits on what files may contain and require; files that exceed them are refused.
///
/// Every limit is checked before memory is allocated for what it limits. ``tensors``, ``headerBytes``,
/// ``pickledValueBytes`` and ``pickleMemoryBytes`` apply to all files of a checkpoint together, the others to each
/// file.
public struct ReadLimits: Sendable, Equatable {
    /// The maximum length of a safetensors header, in bytes; the reference implementation has the same limit.
    public var headerBytes = 100_000_000
    /// The maximum length of a shard index, in bytes.
    public var indexBytes = 100_000_000
    /// The maximum number of tensors in a checkpoint or an index; ``pickleMemoryBytes`` further limits PyTorch files.
    public var tensors = 1_000_000
    /// The maximum length of a tensor's name, a metadata key or a file name in an index, in bytes as stored.
    public var nameBytes = 4096
    /// The maximum number of dimensions of a tensor.
    public var rank = 64
    /// The maximum number of entries in a file's metadata.
    public var metadataEntries = 100_000
    /// The maximum size of a file's metadata, keys and values together, in bytes.
    public var metadataBytes = 16_000_000
    /// The maximum number of files that one index may name; each stays open as long as the checkpoint.
    public var shards = 1000
    /// The maximum length of a PyTorch checkpoint's pickle, in bytes; a tensor takes about 150.
    public var pickleBytes = 32_000_000
    /// The maximum memory for the values of a pickle, in bytes; a tensor takes about 250.
    public var pickledValueBytes = 40_000_000
    /// The maximum memory for opening PyTorch checkpoints, in bytes: the archive's directory, the pickle, its values,
    /// and everything built from them; a tensor takes about 850, so a state_dict of 110,000 tensors still opens.
    public var pickleMemoryBytes = 100_000_000
    /// The maximum total size of a PyTorch file's tensors, in bytes, unless ``expandedRatio`` allows more; an element
    /// counts as often as tensors use it.
    public var expandedBytes = 1 << 30
    /// The maximum ratio of that total size to the file's size, unless ``expandedBytes`` allows more.
    public var expandedRatio = 64
    /// The total size of a file's storages, in bytes, below which checksums are verified on opening and not on reading.
    public var checkedAtOpeningBytes = 64_000_000
    /// The maximum length of a zip archive's directory, in bytes; a record takes about 80.
    public var zipDirectoryBytes = 16_000_000

    /// The maximum window of a zstd frame, in bytes; each thread that unpacks may take this much memory.
    public var zstdWindowBytes = 1 << 25
    /// The maximum number of frames in a zstd file, including skippable ones; a seekable archive has about one per
    /// megabyte.
    public var zstdFrames = 50_000
    /// The maximum content size of a zstd frame, in bytes, for which reading in any order is practical.
    public var seekableFrameBytes = 1 << 24
    /// The maximum unpacked size of a compressed file, in bytes, unless ``unpackedRatio`` allows more.
    ///
    /// Some files are unpacked to disk before their contents can be checked; a file of a few kilobytes must not fill
    /// the disk.
    public var unpackedBytes = 1 << 28
    /// The maximum ratio of unpacked to compressed size, unless ``unpackedBytes`` allows more.
    public var unpackedRatio = 64

    /// The limits for everyday use.
    public static let standard = ReadLimits()

    /// Subtracts what `file` uses, and leaves the rest for the remaining files.
    mutating func take(_ file: CheckpointFile) {
        tensors -= file.tensorCount
        headerBytes = max(0, headerBytes - file.contents.headerByteCount)
        pickledValueBytes = max(0, pickledValueBytes - file.contents.headerByteCount)
        pickleMemoryBytes = max(0, pickleMemoryBytes - file.contents.headerByteCount)
    }
}
