import Synchronization

/// The bytes that a zstd file unpacks to, unpacked as they are read.
///
/// Reading forwards goes on where reading stopped. Reading elsewhere begins at the start of the frame that holds the place, which is
/// cheap where frames are small (a seekable archive) and dear where one frame is all there is. Behind frames whose lengths a seek table
/// alone gives it begins at the first of them, so that a table cannot make a byte appear at two places.
final class ZstdSource: ByteSource {
    let path: String
    let count: Int
    /// Whether a frame is long, or a place is certain only once all in front of it was unpacked.
    let isSequential: Bool

    private let source: any ByteSource
    private let frames: ZstdFrames
    private let limits: ReadLimits
    private let readers: Mutex<Readers>

    private struct Readers {
        /// Those that nobody uses now, the one that was used last at the end.
        var waiting: [ZstdReader] = []
        var inUse = 0
        /// How many were ever in use at once, which is how many are kept: each holds a window.
        var mostInUse = 0
        /// What was read of each frame.
        var progress: [FrameProgress]
    }

    private enum FrameProgress {
        case nothing
        case part
        /// To its end, where its length and checksum are checked.
        case all
    }

    /// Reads where the frames are; where nothing says how long a frame's content is, that is unpacked once to see.
    ///
    /// - Throws: ``CheckpointError``: `malformed`, `unsupported` or `inputOutput`.
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
            throw CheckpointError(.inputOutput, path: path, "the bytes end early", offset: offset)
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

    /// Unpacks every frame of which a part was read to its end, unless that was done before.
    func finish() throws(CheckpointError) {
        for (index, frame) in frames.frames.enumerated() {
            guard readers.withLock({ $0.progress[index] == .part }) else { continue }
            var reader = try takeReader(for: frame.content.upperBound - 1)
            try unpack(frame.content.upperBound - reader.position, from: &reader)
            giveBack(reader)
        }
    }

    /// The reader that has the least to unpack on its way to `offset`, a new one where none can get there.
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

    /// Unpacks bytes, and keeps account of what was read of each frame.
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

    /// Keeps a reader for later, unless it is at the end.
    private func giveBack(_ reader: ZstdReader) {
        guard reader.index < frames.frames.count else { return }
        readers.withLock { readers in
            readers.waiting.append(reader)
            if readers.waiting.count > readers.mostInUse { readers.waiting.removeFirst() }
        }
    }
}

/// Unpacks forwards from the start of a frame, on into the frames behind it.
private struct ZstdReader {
    /// The number of the frame that it is in; after the last one their number.
    private(set) var index: Int
    /// Where the next byte that it gives is in the unpacked bytes.
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
        // The first frame may be empty.
        try endFrames()
    }

    /// Unpacks the next `count` bytes, to nowhere where there is no buffer.
    ///
    /// Where they reach the end of a frame, its length and checksum are checked.
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
                    .malformed, path: path, "the zstd file unpacks to less than it says",
                    offset: frames[index].range.lowerBound)
            }
            done += given
            position += given
            try endFrames()
        }
    }

    /// Goes on to the next frame with content, where all of this one's has been given.
    private mutating func endFrames() throws(CheckpointError) {
        while index < frames.count, position == frames[index].content.upperBound {
            guard try decoder.skip(1) == 0 else {
                throw CheckpointError(
                    .malformed, path: path, "the zstd file unpacks to more than it says",
                    offset: frames[index].range.lowerBound)
            }
            index += 1
            if index < frames.count, !frames[index].isSkippable { decoder.begin(frames[index].range) }
        }
    }
}
