/// Limits on what files may contain or demand before they are refused.
///
/// Every limit is checked before anything is allocated for what it limits. ``tensors``, ``headerBytes``, ``pickledValueBytes``
/// and ``pickleMemoryBytes`` apply to all files of a checkpoint together, the others to each file.
public struct ReadLimits: Sendable, Equatable {
    /// The longest safetensors header, in bytes; the reference implementation has the same limit.
    public var headerBytes = 100_000_000
    /// The longest shard index, in bytes.
    public var indexBytes = 100_000_000
    /// The most tensors in a checkpoint or an index; ``pickleMemoryBytes`` allows fewer in PyTorch checkpoints.
    public var tensors = 1_000_000
    /// The longest name of a tensor, a metadata key or a file in an index, in bytes as stored.
    public var nameBytes = 4096
    /// The most dimensions of a tensor.
    public var rank = 64
    /// The most entries in a file's metadata.
    public var metadataEntries = 100_000
    /// The most bytes that a file's metadata may take, keys and values together.
    public var metadataBytes = 16_000_000
    /// The most files that one index may name; each stays open as long as the checkpoint.
    public var shards = 1000
    /// The longest pickle of a PyTorch checkpoint, in bytes; a tensor takes about 150.
    public var pickleBytes = 32_000_000
    /// The most memory that the values of a pickle may take, in bytes; a tensor takes about 250.
    public var pickledValueBytes = 40_000_000
    /// The most memory that opening PyTorch checkpoints may take, in bytes: the archive's directory, the pickle, its values, and
    /// everything made from them; a tensor takes about 850, so a state_dict of 110,000 still opens.
    public var pickleMemoryBytes = 100_000_000
    /// The most bytes that the tensors of a PyTorch file may take together, counting elements as often as tensors use them,
    /// unless ``expandedRatio`` allows more.
    public var expandedBytes = 1 << 30
    /// How many times the file's size its tensors may take together, counted in the same way.
    public var expandedRatio = 64
    /// Checksums are verified on opening a file whose tensors take fewer bytes in all than this, else when tensors are read.
    public var checkedAtOpeningBytes = 64_000_000
    /// The longest directory of a zip archive, in bytes; a record takes about 80.
    public var zipDirectoryBytes = 16_000_000

    /// The largest window of a zstd frame, in bytes; each thread that unpacks takes as much memory.
    public var zstdWindowBytes = 1 << 25
    /// The most frames of a zstd file, including skippable ones; seekable archives have about one per megabyte.
    public var zstdFrames = 50_000
    /// The longest content of a zstd frame, in bytes, for which reading in any order is practical.
    public var seekableFrameBytes = 1 << 24
    /// The most bytes that a compressed file may unpack to, unless ``unpackedRatio`` allows more.
    ///
    /// Some files are unpacked to disk before their contents can be checked: a file of a few kilobytes must not fill the disk.
    public var unpackedBytes = 1 << 28
    /// How many times its own size a compressed file may unpack to.
    public var unpackedRatio = 64

    /// The limits for everyday use.
    public static let standard = ReadLimits()

    /// Subtracts what `file` uses, leaving the rest to the files after it.
    mutating func take(_ file: CheckpointFile) {
        tensors -= file.tensorCount
        headerBytes = max(0, headerBytes - file.contents.headerByteCount)
        pickledValueBytes = max(0, pickledValueBytes - file.contents.headerByteCount)
        pickleMemoryBytes = max(0, pickleMemoryBytes - file.contents.headerByteCount)
    }
}
