public import Bytes
import CRWKVKernels
import Crypto
import Synchronization

/// A writer for the files of a ``CheckpointByteLayout``, which it writes tensor by tensor.
///
/// Tensors can be written in any order and from several threads, but each tensor must be written from a single thread.
/// The bytes around the tensors, such as headers, are written last, so that an incomplete file is never valid.
///
/// A compressed file is written sequentially: its tensors must be written in ``order``, from a single thread.
public final class CheckpointWriter: Sendable {
    /// The byte layout of the files to write.
    public let byteLayout: CheckpointByteLayout
    private let sinks: [any ByteSink]
    private let checksums: Mutex<[[UInt32]]>

    /// Whether tensors must be written in ``order``, from one thread.
    public var isSequential: Bool { sinks.contains { $0.isSequential } }

    /// The indices of the tensors that have bytes of their own, in file order.
    public var order: [Int] { byteLayout.files.flatMap(\.tensors) }

    /// Creates a writer for a single file.
    ///
    /// - Parameters:
    ///   - byteLayout: the byte layout of a single file.
    ///   - file: the file to write.
    ///   - isCompressed: whether to compress the file with zstd.
    /// - Throws: `CheckpointError` of category `inputOutput` if disk space for the file cannot be reserved.
    public convenience init(
        _ byteLayout: CheckpointByteLayout, into file: borrowing UnfinishedFile, isCompressed: Bool
    ) throws(CheckpointError) {
        let (output, own) = (file.file, byteLayout.files[0].byteLayout)
        if !isCompressed { try output.reserve(own.byteCount) }
        self.init(byteLayout, isCompressed ? [ZstdOutput(output, cuts: own.cuts)] : [output])
    }

    /// Creates a writer for all files of a byte layout in a directory, and writes the shard index if there is one.
    ///
    /// - Throws: `CheckpointError` of category `cannotCreate` if a file cannot be created, or `inputOutput` if disk
    ///   space cannot be reserved or the index cannot be written.
    public convenience init(
        _ byteLayout: CheckpointByteLayout, into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) {
        var files: [OutputFile] = []
        for file in byteLayout.files {
            let output = try directory.create(file.name)
            try output.reserve(file.byteLayout.byteCount)
            files.append(output)
        }
        self.init(byteLayout, files)
        if let index = byteLayout.shardIndex { try directory.write(index, to: CheckpointByteLayout.indexName) }
    }

    private init(_ byteLayout: CheckpointByteLayout, _ sinks: [any ByteSink]) {
        self.byteLayout = byteLayout
        self.sinks = sinks
        checksums = Mutex(byteLayout.files.map { $0.tensors.map { _ in 0 } })
    }

    /// Begins writing a tensor that has bytes of its own.
    ///
    /// - Throws: `CheckpointError` of category `inputOutput`.
    public func begin(_ number: Int) throws(CheckpointError) -> TensorOutput {
        let (file, place) = byteLayout.place(ofTensor: number)
        let own = byteLayout.files[file].byteLayout
        if sinks[file].isSequential { try writeSurroundings(of: file, before: place) }
        return TensorOutput(
            writer: self, file: file, place: place, sink: sinks[file], range: own.ranges[place],
            needsChecksum: own.needsChecksums)
    }

    fileprivate func note(_ checksum: UInt32, file: Int, place: Int) {
        checksums.withLock { $0[file][place] = checksum }
    }

    private func writeSurroundings(of file: Int, before place: Int) throws(CheckpointError) {
        let own = byteLayout.files[file].byteLayout
        let bytes = checksums.withLock { own.bytes(before: place, checksums: $0[file]) }
        try sinks[file].write(bytes, at: own.start(before: place))
    }

    /// Writes the bytes around the tensors, and waits until the files are on disk.
    ///
    /// All tensors must have been written.
    ///
    /// - Throws: `CheckpointError` of category `inputOutput`.
    public func finish() throws(CheckpointError) {
        for (number, file) in byteLayout.files.enumerated() {
            let count = file.tensors.count
            for place in (sinks[number].isSequential ? count : 0)...count {
                try writeSurroundings(of: number, before: place)
            }
            try sinks[number].finish()
        }
    }
}

/// An output for the bytes of a tensor, which are written in order.
public struct TensorOutput: ~Copyable {
    private let writer: CheckpointWriter
    private let file: Int
    private let place: Int
    private let sink: any ByteSink
    private let range: Range<Int>
    private let needsChecksum: Bool
    private var position: Int
    private var hash = SHA256()
    private var checksum: UInt32 = 0

    fileprivate init(
        writer: CheckpointWriter, file: Int, place: Int, sink: any ByteSink, range: Range<Int>, needsChecksum: Bool
    ) {
        self.writer = writer
        self.file = file
        self.place = place
        self.sink = sink
        self.range = range
        self.needsChecksum = needsChecksum
        position = range.lowerBound
    }

    /// Writes the next bytes of the tensor.
    ///
    /// - Throws: `CheckpointError` of category `inputOutput`.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        precondition(bytes.count <= range.upperBound - position, "more bytes than the tensor has")
        try sink.write(bytes, at: position)
        hash.update(bufferPointer: bytes)
        if needsChecksum { checksum = rwkv_crc32(checksum, bytes.baseAddress, bytes.count) }
        position += bytes.count
    }

    /// Finishes the tensor and returns the SHA-256 of its bytes (32 bytes).
    ///
    /// All bytes of the tensor must have been written.
    public consuming func finish() -> [UInt8] {
        precondition(position == range.upperBound, "fewer bytes than the tensor has")
        writer.note(checksum, file: file, place: place)
        return Array(hash.finalize())
    }
}
