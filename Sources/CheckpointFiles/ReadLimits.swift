/// How much a reader takes from a file before it refuses it.
///
/// Every limit is checked before anything is allocated for what it limits. Those on headers, pickles and tensors are for all files of a
/// checkpoint together.
public struct ReadLimits: Sendable, Equatable {
    /// The longest safetensors header, in bytes; the reference's own limit.
    public var headerBytes = 100_000_000
    /// The longest shard index, in bytes.
    public var indexBytes = 100_000_000
    /// The most tensors in one file, or in one index; what PyTorch checkpoints may hold of them is bounded by ``pickleMemoryBytes``.
    public var tensors = 1_000_000
    /// The longest name of a tensor, a metadata key or a file in an index, in bytes as they stand in the file.
    public var nameBytes = 4096
    /// The most dimensions of a tensor.
    public var rank = 64
    /// The most entries in a file's metadata.
    public var metadataEntries = 100_000
    /// The most bytes that a file's metadata may take, keys and values together.
    public var metadataBytes = 16_000_000
    /// The most files that one index may name; each stays open while the checkpoint is.
    public var shards = 1000
    /// The longest pickle of a PyTorch checkpoint, in bytes; there are about 150 a tensor.
    public var pickleBytes = 32_000_000
    /// The most memory that the values of a pickle may take, in bytes; there are about 250 a tensor.
    public var pickledValueBytes = 40_000_000
    /// The most memory that opening PyTorch checkpoints may take, in bytes: the directory of the archive, the pickle, its values, and all
    /// that is made of them; there are about 850 a tensor, so that a
    /// state_dict of 110,000 still opens.
    public var pickleMemoryBytes = 100_000_000
    /// The most bytes that the tensors of a file may take which name the same elements again and again, unless ``expandedRatio`` allows
    /// more.
    public var expandedBytes = 1 << 30
    /// How many times the file's size its tensors may take.
    public var expandedRatio = 64
    /// Checksums are held against the tensors' bytes when a file is opened if these are fewer, else when they are read.
    public var checkedAtOpeningBytes = 64_000_000
    /// The longest directory of a zip archive, in bytes; there are about 80 a record.
    public var zipDirectoryBytes = 16_000_000

    /// The largest window of a zstd frame; unpacking takes as much memory, on each thread.
    public var zstdWindowBytes = 1 << 25
    /// The most frames of a zstd file, skippable ones among them; archives that can be read anywhere have one for a megabyte or so.
    public var zstdFrames = 50_000
    /// The longest content of a zstd frame for which reading in any order is sensible.
    public var seekableFrameBytes = 1 << 24
    /// The most bytes that a compressed file may unpack to, unless ``unpackedRatio`` allows more.
    ///
    /// Some files are unpacked to a disk before anything in them can be checked: a few kilobytes must not fill it.
    public var unpackedBytes = 1 << 28
    /// How many times its own size a compressed file may unpack to.
    public var unpackedRatio = 64

    /// The limits that are meant for everyday use.
    public static let standard = ReadLimits()

    /// Leaves what `file` has not used to the files behind it.
    mutating func take(_ file: CheckpointFile) {
        tensors -= file.tensorCount
        headerBytes = max(0, headerBytes - file.contents.headerByteCount)
        pickledValueBytes = max(0, pickledValueBytes - file.contents.headerByteCount)
        pickleMemoryBytes = max(0, pickleMemoryBytes - file.contents.headerByteCount)
    }
}
