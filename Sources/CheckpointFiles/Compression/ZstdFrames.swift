import Bytes

/// The frames of a zstd file, and the range of the unpacked bytes that each frame contains.
///
/// The frames are found by stepping from one block header to the next (RFC 8878, section 3). The content size of a
/// frame comes from its header. If the header does not record the size, it comes from a seek table at the end of the
/// file (contrib/seekable_format in the zstd repository), which is trusted until the frame is unpacked. If there is no
/// seek table either, the frame is unpacked to determine the size. Sizes and windows are checked against the limits
/// before memory is allocated for them.
struct ZstdFrames: Sendable {
    struct Frame: Sendable {
        /// The byte range of the frame in the file.
        var range: Range<Int>
        /// Whether the frame is skippable and therefore has no content.
        var isSkippable: Bool
        /// The range of the frame's content in the unpacked bytes.
        var content = 0..<0
        /// Whether the content size comes from the frame itself, and not only from a seek table.
        var isExact = true
        /// Whether the frame has been unpacked to determine its content size.
        var isCounted = false
    }

    private(set) var frames: [Frame] = []
    /// The index of the first frame whose size comes only from a seek table, or the number of frames if there is none.
    private let firstInexact: Int

    /// Creates the list of a file's frames.
    ///
    /// - Throws: `CheckpointError` of category `malformed`, `unsupported` (a window is too large) or `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        var headers = HeaderReader(source)
        /// The content sizes from the frame headers, with nil for headers that do not record the size.
        var sizes: [Int?] = []
        while headers.position < source.count {
            let start = headers.position
            guard frames.count < limits.zstdFrames else {
                throw CheckpointError(
                    .malformed, path: source.path, "the zstd file has too many frames", offset: start,
                    expected: "at most \(limits.zstdFrames)")
            }
            let magic = try headers.integer(4)
            let isSkippable = magic & 0xFFFF_FFF0 == 0x184D_2A50
            if isSkippable {
                headers.skip(try headers.integer(4))
                sizes.append(0)
            } else if magic == 0xFD2F_B528 {
                sizes.append(try headers.stepOverFrame(limits: limits))
            } else {
                throw CheckpointError(
                    .malformed, path: source.path, "the bytes after a zstd frame are not another frame", offset: start)
            }
            guard headers.position <= source.count else { throw headers.cutShort }
            frames.append(Frame(range: start..<headers.position, isSkippable: isSkippable))
        }
        guard frames.contains(where: { !$0.isSkippable }) else {
            throw CheckpointError(.malformed, path: source.path, "the zstd file contains only skippable frames")
        }

        let claims = try Self.seekTable(source, frames)
        let most = max(limits.unpackedBytes, source.count.multiplied(clamped: limits.unpackedRatio))
        let decoder = try ZstdDecoder(source, limits: limits)
        var end = 0
        for index in frames.indices {
            let claim = claims?[index]
            frames[index].isExact = sizes[index] != nil || claim == nil
            let size: Int
            if let known = sizes[index] ?? claim {
                size = known
            } else {
                size = try decoder.countContent(of: frames[index].range, limit: most - end)
                frames[index].isCounted = true
            }
            guard claim == nil || claim == size else {
                throw CheckpointError(
                    .malformed, path: source.path,
                    "the zstd seek table and a frame disagree on the size of the frame's content",
                    offset: frames[index].range.lowerBound, expected: "\(size)", found: claim.map { "\($0)" })
            }
            guard size <= most - end else {
                throw CheckpointError(
                    .malformed, path: source.path, "the zstd file unpacks to more bytes than the limit allows",
                    expected: "at most \(most)")
            }
            frames[index].content = end..<end + size
            end += size
        }
        firstInexact = frames.firstIndex { !$0.isExact } ?? frames.count
    }

    /// The total number of unpacked bytes.
    var contentCount: Int { frames.last?.content.upperBound ?? 0 }

    /// Returns the index of the frame with which unpacking must start to reach `offset` in the unpacked bytes.
    func start(for offset: Int) -> Int {
        var low = 0
        var high = frames.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if frames[middle].content.lowerBound <= offset { low = middle } else { high = middle }
        }
        return min(low, firstInexact)
    }

    /// Reads the content sizes of all frames from a seek table in the last frame, or returns nil if there is no seek
    /// table.
    private static func seekTable(_ source: any ByteSource, _ frames: [Frame]) throws(CheckpointError) -> [Int]? {
        /// The size in bytes of the footer, which contains the number of frames, a descriptor and a magic number.
        let footerSize = 9
        guard let own = frames.last, own.isSkippable, own.range.count >= 8 + footerSize else { return nil }
        let start = own.range.lowerBound
        let footer = try source.bytes(source.count - footerSize..<source.count)
        guard footer.integer(at: 5, count: 4) == 0x8F92_EAB1,
            try source.bytes(start..<start + 4).integer(at: 0, count: 4) == 0x184D_2A5E
        else { return nil }
        func malformed(_ problem: String, at offset: Int, _ expected: Int? = nil, _ found: Int? = nil)
            -> CheckpointError
        {
            CheckpointError(
                .malformed, path: source.path, "the zstd seek table " + problem, offset: offset,
                expected: expected.map(String.init), found: found.map(String.init))
        }
        let count = footer.integer(at: 0, count: 4)
        guard footer[4] & 0x7C == 0 else { throw malformed("has unknown flags", at: source.count - 5) }
        guard count == frames.count - 1 else {
            throw malformed(
                "has a different number of frames than the file", at: source.count - 9, frames.count - 1, count)
        }
        let entrySize = footer[4] & 0x80 == 0 ? 8 : 12
        let tableSize = 8 + count * entrySize + footerSize
        guard own.range.count == tableSize else {
            throw malformed("has the wrong size for its number of entries", at: start, tableSize, own.range.count)
        }
        let table = try source.bytes(own.range)
        var sizes: [Int] = []
        for (index, frame) in frames.dropLast().enumerated() {
            let entry = 8 + index * entrySize
            let packed = table.integer(at: entry, count: 4)
            guard packed == frame.range.count else {
                throw malformed(
                    "gives the wrong length for a frame", at: start + entry, frame.range.count, packed)
            }
            sizes.append(table.integer(at: entry + 4, count: 4))
        }
        return sizes + [0]
    }
}

/// A reader that moves through a zstd file from one frame or block header to the next.
private struct HeaderReader {
    /// The offset of the next header in the file, in bytes.
    private(set) var position = 0
    private let source: any ByteSource
    private var window = 0..<0
    private var bytes: [UInt8] = []

    init(_ source: any ByteSource) {
        self.source = source
    }

    var cutShort: CheckpointError {
        CheckpointError(.malformed, path: source.path, "the zstd file is truncated", offset: source.count)
    }

    mutating func skip(_ count: Int) {
        position += count
    }

    /// Reads the little-endian integer in the next `count` bytes, or returns -1 if it does not fit into 63 bits.
    mutating func integer(_ count: Int) throws(CheckpointError) -> Int {
        guard count <= source.count - position else { throw cutShort }
        if position + count > window.upperBound {
            // While headers are close together, read increasingly large windows. If the next header is far away, skip
            // the gap and start with a small window again.
            let size = position - window.upperBound < 256 ? min(max(256, window.count * 2), 1 << 16) : 256
            window = position..<min(position + size, source.count)
            bytes = try source.bytes(window)
        }
        defer { position += count }
        return bytes.integer(at: position - window.lowerBound, count: count)
    }

    /// Moves from the end of a frame's magic number to the end of the frame, and returns the content size if the header
    /// records it.
    mutating func stepOverFrame(limits: ReadLimits) throws(CheckpointError) -> Int? {
        let start = position - 4
        func malformed(_ problem: String, at offset: Int) -> CheckpointError {
            CheckpointError(.malformed, path: source.path, problem, offset: offset)
        }
        let descriptor = try integer(1)
        guard descriptor & 8 == 0 else { throw malformed("a zstd frame has unknown flags", at: start + 4) }
        let isSingleSegment = descriptor & 0x20 != 0
        let windowByte = isSingleSegment ? 0 : try integer(1)
        // Skip the dictionary ID.
        skip([0, 1, 2, 4][descriptor & 3])
        let sizeCode = descriptor >> 6
        let sizeCount = sizeCode == 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeCode
        var contentCount: Int?
        if sizeCount > 0 {
            let value = try integer(sizeCount)
            guard value >= 0 else { throw malformed("a zstd frame's size overflows", at: start) }
            contentCount = value + (sizeCount == 2 ? 256 : 0)
        }
        // The window size is a power of two, given by the upper five bits, plus a number of eighths of that power,
        // given by the lower three bits.
        let needed = isSingleSegment ? contentCount ?? 0 : (8 + (windowByte & 7)) << (7 + (windowByte >> 3))
        guard needed <= limits.zstdWindowBytes else {
            throw CheckpointError(
                .unsupported, path: source.path, "the zstd file needs a window that is too large", offset: start,
                expected: "at most \(limits.zstdWindowBytes) bytes", found: "\(needed)",
                advice: "compress it again without --long or --ultra")
        }
        var isLast = false
        while !isLast {
            let block = try integer(3)
            isLast = block & 1 != 0
            let kind = block >> 1 & 3
            guard kind != 3 else { throw malformed("a zstd block is of an unknown kind", at: position - 3) }
            skip(kind == 1 ? 1 : block >> 3)
        }
        if descriptor & 4 != 0 { skip(4) }
        return contentCount
    }
}

extension ZstdDecoder {
    /// Unpacks a frame and returns the size of its content, but stops once the size exceeds `limit`.
    fileprivate func countContent(of frame: Range<Int>, limit: Int) throws(CheckpointError) -> Int {
        begin(frame)
        var count = 0
        while count <= limit {
            let given = try skip(.max)
            guard given > 0 else { break }
            count += given
        }
        return count
    }
}
