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
    /// Those that nobody uses now.
    private let readers = Mutex<[ZstdReader]>([])

    /// Reads where the frames are; where nothing says how long a frame's content is, that is unpacked once to see.
    ///
    /// - Throws: ``CheckpointError``: `malformed`, `unsupported` or `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        self.source = source
        self.limits = limits
        path = source.path
        frames = try ZstdFrames(source, limits: limits)
        count = frames.contentCount
        isSequential = frames.frames.contains { !$0.isExact || $0.content.count > limits.seekableFrameBytes }
    }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        guard buffer.byteCount > 0 else { return }
        guard offset >= 0, offset <= count - buffer.byteCount else {
            throw CheckpointError(.inputOutput, path: path, "the bytes end early", offset: offset)
        }
        let start = frames.start(for: offset)
        var reader: ZstdReader
        if let waiting = takeReader(before: offset, notBefore: frames.frames[start].content.lowerBound) {
            reader = waiting
        } else {
            reader = try ZstdReader(source, frames, index: start, limits: limits)
        }
        try reader.read(offset - reader.position, into: nil)
        try buffer.withUnsafeMutableBytes { bytes throws(CheckpointError) in try reader.read(bytes.count, into: bytes) }
        readers.withLock { readers in
            readers.append(reader)
            // Each holds a window; more than there are threads are of no use.
            if readers.count > 2 { readers.removeFirst() }
        }
    }

    private func takeReader(before offset: Int, notBefore start: Int) -> ZstdReader? {
        readers.withLock { readers in
            let fit = readers.indices.filter { (start...offset).contains(readers[$0].position) }
            return fit.max { readers[$0].position < readers[$1].position }.map { readers.remove(at: $0) }
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

    /// Goes on to the next frame with content, where that of this one has been given.
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
