import Bytes
import Synchronization

/// A byte source that unpacks a zstd file as it is read.
///
/// A read unpacks from the start of the frame that contains the offset. If the size of that frame or of an earlier one
/// comes only from a seek table, the read starts with the first such frame instead, so that a false table cannot make
/// the same byte appear at two offsets. If an earlier read has stopped between the start and the offset, unpacking
/// continues from there.
///
/// Reads are therefore cheap if the frames are small, as in a seekable archive, and expensive if the file is one large
/// frame.
final class ZstdSource: ByteSource {
    let path: String
    let count: Int
    /// Whether reads should be in ascending order, because a frame is large or a frame's size comes only from a seek
    /// table.
    let isSequential: Bool

    private let source: any ByteSource
    private let frames: ZstdFrames
    private let limits: ReadLimits
    private let readers: Mutex<Readers>

    private struct Readers {
        /// The idle readers, with the most recently used last.
        var waiting: [ZstdReader] = []
        var inUse = 0
        /// The maximum number of readers that have been in use at once.
        ///
        /// No more idle readers than this are kept, because each reader has a window in memory.
        var mostInUse = 0
        /// The progress of each frame.
        var progress: [FrameProgress]
    }

    /// The extent to which a frame has been unpacked.
    private enum FrameProgress {
        case nothing
        case part
        /// The frame has been unpacked to its end, so its size and checksum have been verified.
        case all
    }

    /// Creates a source and finds the frames of the file.
    ///
    /// A frame whose content size is not recorded is unpacked once to determine the size.
    ///
    /// - Throws: `CheckpointError` of category `malformed`, `unsupported` or `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        self.source = source
        self.limits = limits
        path = source.path
        frames = try ZstdFrames(source, limits: limits)
        count = frames.contentCount
        readers = Mutex(Readers(progress: frames.frames.map { $0.isCounted ? .all : .nothing }))
        isSequential = frames.frames.contains { !$0.isExact || $0.content.count > limits.seekableFrameBytes }
    }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        guard buffer.byteCount > 0 else { return }
        guard offset >= 0, offset <= count - buffer.byteCount else {
            throw CheckpointError(.inputOutput, path: path, "unexpected end of data", offset: offset)
        }
        readers.withLock {
            $0.inUse += 1
            $0.mostInUse = max($0.mostInUse, $0.inUse)
        }
        defer { readers.withLock { $0.inUse -= 1 } }
        var reader = try takeReader(for: offset)
        try unpack(offset - reader.position, from: &reader)
        try buffer.withUnsafeMutableBytes { bytes throws(CheckpointError) in
            try unpack(bytes.count, from: &reader, into: bytes)
        }
        giveBack(reader)
    }

    /// Unpacks each partly read frame to its end, so that its size and checksum are verified.
    func finish() throws(CheckpointError) {
        for (index, frame) in frames.frames.enumerated() {
            guard readers.withLock({ $0.progress[index] == .part }) else { continue }
            var reader = try takeReader(for: frame.content.upperBound - 1)
            try unpack(frame.content.upperBound - reader.position, from: &reader)
            giveBack(reader)
        }
    }

    /// Takes the idle reader that needs to unpack the fewest bytes to reach `offset`, or creates a reader if no idle
    /// reader can reach the offset.
    private func takeReader(for offset: Int) throws(CheckpointError) -> ZstdReader {
        let start = frames.start(for: offset)
        let places = frames.frames[start].content.lowerBound...offset
        let taken = readers.withLock { readers in
            let fit = readers.waiting.indices.filter { places.contains(readers.waiting[$0].position) }
            let best = fit.max { readers.waiting[$0].position < readers.waiting[$1].position }
            return best.map { readers.waiting.remove(at: $0) }
        }
        if let taken { return taken }
        return try ZstdReader(source, frames, index: start, limits: limits)
    }

    /// Unpacks bytes and records how much of each frame has been read.
    private func unpack(
        _ count: Int, from reader: inout ZstdReader, into buffer: UnsafeMutableRawBufferPointer? = nil
    ) throws(CheckpointError) {
        let first = reader.index
        try reader.read(count, into: buffer)
        let last = reader.index
        let isWithin = last < frames.frames.count && reader.position > frames.frames[last].content.lowerBound
        readers.withLock { readers in
            for index in first..<last { readers.progress[index] = .all }
            if isWithin, readers.progress[last] == .nothing { readers.progress[last] = .part }
        }
    }

    /// Adds a reader to the idle readers, unless the reader is at the end of the file.
    private func giveBack(_ reader: ZstdReader) {
        guard reader.index < frames.frames.count else { return }
        readers.withLock { readers in
            readers.waiting.append(reader)
            if readers.waiting.count > readers.mostInUse { readers.waiting.removeFirst() }
        }
    }
}

/// A reader that unpacks sequentially from the start of a frame and continues into the following frames.
private struct ZstdReader {
    /// The index of the current frame, or the number of frames once all have been read.
    private(set) var index: Int
    /// The offset of the next byte in the unpacked content.
    private(set) var position: Int

    private let frames: [ZstdFrames.Frame]
    private let decoder: ZstdDecoder
    private let path: String

    init(_ source: any ByteSource, _ frames: ZstdFrames, index: Int, limits: ReadLimits) throws(CheckpointError) {
        self.index = index
        self.frames = frames.frames
        decoder = try ZstdDecoder(source, limits: limits)
        path = source.path
        position = self.frames[index].content.lowerBound
        decoder.begin(self.frames[index].range)
        // The first frame can be empty.
        try endFrames()
    }

    /// Unpacks the next `count` bytes into `buffer`, or discards them if `buffer` is nil.
    ///
    /// When unpacking reaches the end of a frame, the frame's size and checksum are verified.
    mutating func read(_ count: Int, into buffer: UnsafeMutableRawBufferPointer?) throws(CheckpointError) {
        var done = 0
        while done < count {
            let size = min(count - done, frames[index].content.upperBound - position)
            let given: Int
            if let buffer {
                given = try decoder.unpack(into: UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + size]))
            } else {
                given = try decoder.skip(size)
            }
            guard given > 0 else {
                throw CheckpointError(
                    .malformed, path: path, "a zstd frame unpacks to fewer bytes than recorded",
                    offset: frames[index].range.lowerBound)
            }
            done += given
            position += given
            try endFrames()
        }
    }

    /// Moves on to the next frame with content if all content of the current frame has been unpacked.
    private mutating func endFrames() throws(CheckpointError) {
        while index < frames.count, position == frames[index].content.upperBound {
            guard try decoder.skip(1) == 0 else {
                throw CheckpointError(
                    .malformed, path: path, "a zstd frame unpacks to more bytes than recorded",
                    offset: frames[index].range.lowerBound)
            }
            index += 1
            if index < frames.count, !frames[index].isSkippable { decoder.begin(frames[index].range) }
        }
    }
}
