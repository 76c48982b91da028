import CRWKVKernels
import Crypto
import Synchronization

/// Writes a checkpoint's files as an outline has them, tensor by tensor.
///
/// Tensors are written in any order and from many threads, each by one; into compressed files in ``order`` and from one thread. What
/// stands around the tensors is written last, so that a file in which something is missing is none.
public final class CheckpointWriter: Sendable {
    /// What the files will be.
    public let outline: CheckpointOutline
    private let sinks: [any ByteSink]
    private let checksums: Mutex<[[UInt32]]>

    /// Whether tensors must be written in ``order``, from one thread.
    public var isSequential: Bool { sinks.contains { $0.isSequential } }

    /// The tensors that have bytes of their own, in the order in which they stand in the files.
    public var order: [Int] { outline.files.flatMap(\.tensors) }

    /// Writes into one file.
    ///
    /// - Parameters:
    ///   - outline: of one file.
    ///   - file: what is to hold it.
    ///   - isCompressed: whether to pack it with zstd.
    /// - Throws: ``CheckpointError`` of category `inputOutput` where there is not enough room.
    public convenience init(
        _ outline: CheckpointOutline, into file: borrowing UnfinishedFile, isCompressed: Bool
    ) throws(CheckpointError) {
        let (output, own) = (file.file, outline.files[0].outline)
        if !isCompressed { try output.reserve(own.byteCount) }
        self.init(outline, isCompressed ? [ZstdOutput(output, cuts: own.cuts)] : [output])
    }

    /// Writes into a directory.
    ///
    /// - Throws: ``CheckpointError``: `inputOutput` where there is not enough room, `cannotCreate`.
    public convenience init(
        _ outline: CheckpointOutline, into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) {
        var files: [OutputFile] = []
        for file in outline.files {
            let output = try directory.create(file.name)
            try output.reserve(file.outline.byteCount)
            files.append(output)
        }
        self.init(outline, files)
        if let index = outline.shardIndex { try directory.write(index, to: CheckpointOutline.indexName) }
    }

    private init(_ outline: CheckpointOutline, _ sinks: [any ByteSink]) {
        self.outline = outline
        self.sinks = sinks
        checksums = Mutex(outline.files.map { $0.tensors.map { _ in 0 } })
    }

    /// Begins a tensor that has bytes of its own.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func begin(_ number: Int) throws(CheckpointError) -> TensorOutput {
        let (file, place) = outline.place(ofTensor: number)
        let own = outline.files[file].outline
        if sinks[file].isSequential { try writeSurroundings(of: file, before: place) }
        return TensorOutput(
            writer: self, file: file, place: place, sink: sinks[file], range: own.ranges[place],
            needsChecksum: own.needsChecksums)
    }

    fileprivate func note(_ checksum: UInt32, file: Int, place: Int) {
        checksums.withLock { $0[file][place] = checksum }
    }

    private func writeSurroundings(of file: Int, before place: Int) throws(CheckpointError) {
        let own = outline.files[file].outline
        let bytes = checksums.withLock { own.bytes(before: place, checksums: $0[file]) }
        try sinks[file].write(bytes, at: own.start(before: place))
    }

    /// Writes what stands around the tensors, all of which were written, and waits until the files are safe on their disk.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public func finish() throws(CheckpointError) {
        for (number, file) in outline.files.enumerated() {
            let count = file.tensors.count
            for place in (sinks[number].isSequential ? count : 0)...count {
                try writeSurroundings(of: number, before: place)
            }
            try sinks[number].finish()
        }
    }
}

/// One tensor on its way out, front to back.
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

    /// Writes the bytes that come next.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput`.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        precondition(bytes.count <= range.upperBound - position, "a tensor has as many bytes as were announced")
        try sink.write(bytes, at: position)
        hash.update(bufferPointer: bytes)
        if needsChecksum { checksum = rwkv_crc32(checksum, bytes.baseAddress, bytes.count) }
        position += bytes.count
    }

    /// Ends the tensor, all of whose bytes were written; gives their SHA-256.
    public consuming func finish() -> [UInt8] {
        precondition(position == range.upperBound, "a tensor has as many bytes as were announced")
        writer.note(checksum, file: file, place: place)
        return Array(hash.finalize())
    }
}
