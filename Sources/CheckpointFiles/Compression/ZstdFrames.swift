import CheckpointJSON

/// Where the frames of a zstd file are, and what of the unpacked bytes each holds. (RFC 8878, section 3.)
///
/// Frames are found by stepping from block to block. How long a frame's content is stands in its header; or in a seek table at the end
/// of the file (zstd's contrib/seekable_format), which is taken at its word until the frame is unpacked; or the frame is unpacked to
/// see. Sizes and windows are held against the limits before anything is allocated for them.
struct ZstdFrames: Sendable {
    struct Frame: Sendable {
        /// In the file.
        var range: Range<Int>
        /// Whether it holds something that is not for us.
        var isSkippable: Bool
        /// In the unpacked bytes.
        var content = 0..<0
        /// Whether its length is more than what a seek table says.
        var isExact = true
        /// Whether it was unpacked to see how long it is.
        var isCounted = false
    }

    private(set) var frames: [Frame] = []
    /// The number of the first frame whose length a seek table alone gives: what is behind it may be elsewhere.
    private let firstInexact: Int

    /// Finds the frames of a file.
    ///
    /// - Throws: ``CheckpointError``: `malformed`, `unsupported` where a window is too large, or `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        var headers = HeaderReader(source)
        /// What the headers say.
        var sizes: [Int?] = []
        while headers.position < source.count {
            let start = headers.position
            guard frames.count < limits.zstdFrames else {
                throw CheckpointError(
                    .malformed, path: source.path, "the zstd file has too many frames", offset: start,
                    expected: "\(limits.zstdFrames) at the most")
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
                    .malformed, path: source.path, "there is something behind a zstd frame that is none", offset: start)
            }
            guard headers.position <= source.count else { throw headers.cutShort }
            frames.append(Frame(range: start..<headers.position, isSkippable: isSkippable))
        }
        guard frames.contains(where: { !$0.isSkippable }) else {
            throw CheckpointError(.malformed, path: source.path, "the zstd file holds nothing")
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
                    .malformed, path: source.path, "the zstd seek table and a frame differ on the size of its content",
                    offset: frames[index].range.lowerBound, expected: "\(size)", found: claim.map { "\($0)" })
            }
            guard size <= most - end else {
                throw CheckpointError(
                    .malformed, path: source.path, "the zstd file unpacks to more bytes than the limit allows",
                    expected: "\(most) at the most")
            }
            frames[index].content = end..<end + size
            end += size
        }
        firstInexact = frames.firstIndex { !$0.isExact } ?? frames.count
    }

    /// How many bytes the content of all has.
    var contentCount: Int { frames.last?.content.upperBound ?? 0 }

    /// The number of the frame from whose start on must be unpacked what is wanted at `offset` of the unpacked bytes.
    func start(for offset: Int) -> Int {
        var low = 0
        var high = frames.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if frames[middle].content.lowerBound <= offset { low = middle } else { high = middle }
        }
        return min(low, firstInexact)
    }

    /// What a seek table in the last frame says of the content's size of each frame; nil where there is no table.
    private static func seekTable(_ source: any ByteSource, _ frames: [Frame]) throws(CheckpointError) -> [Int]? {
        /// Number of frames, descriptor, magic number.
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
            throw malformed("has another number of frames than the file", at: source.count - 9, frames.count - 1, count)
        }
        let entrySize = footer[4] & 0x80 == 0 ? 8 : 12
        let tableSize = 8 + count * entrySize + footerSize
        guard own.range.count == tableSize else {
            throw malformed("is longer or shorter than its entries", at: start, tableSize, own.range.count)
        }
        let table = try source.bytes(own.range)
        var sizes: [Int] = []
        for (index, frame) in frames.dropLast().enumerated() {
            let entry = 8 + index * entrySize
            let packed = table.integer(at: entry, count: 4)
            guard packed == frame.range.count else {
                throw malformed(
                    "gives a frame another length than it has", at: start + entry, frame.range.count, packed)
            }
            sizes.append(table.integer(at: entry + 4, count: 4))
        }
        return sizes + [0]
    }
}

/// Reads the headers of frames and blocks, one behind the other.
private struct HeaderReader {
    /// Of the next header, in the file.
    private(set) var position = 0
    private let source: any ByteSource
    private var window = 0..<0
    private var bytes: [UInt8] = []

    init(_ source: any ByteSource) {
        self.source = source
    }

    var cutShort: CheckpointError {
        CheckpointError(.malformed, path: source.path, "the zstd file is cut short", offset: source.count)
    }

    mutating func skip(_ count: Int) {
        position += count
    }

    /// The little-endian integer of the next `count` bytes; -1 where it does not fit in 63 bits.
    mutating func integer(_ count: Int) throws(CheckpointError) -> Int {
        guard count <= source.count - position else { throw cutShort }
        if position + count > window.upperBound {
            // Headers in a row are read by the page and more, those that are far apart without what lies between them.
            let size = position - window.upperBound < 256 ? min(max(256, window.count * 2), 1 << 16) : 256
            window = position..<min(position + size, source.count)
            bytes = try source.bytes(window)
        }
        defer { position += count }
        return bytes.integer(at: position - window.lowerBound, count: count)
    }

    /// Goes from behind the magic number of a frame to its end; gives the size of its content where the header does.
    mutating func stepOverFrame(limits: ReadLimits) throws(CheckpointError) -> Int? {
        let start = position - 4
        func malformed(_ problem: String, at offset: Int) -> CheckpointError {
            CheckpointError(.malformed, path: source.path, problem, offset: offset)
        }
        let descriptor = try integer(1)
        guard descriptor & 8 == 0 else { throw malformed("a zstd frame has unknown flags", at: start + 4) }
        let isSingleSegment = descriptor & 0x20 != 0
        let windowByte = isSingleSegment ? 0 : try integer(1)
        // The number of a dictionary.
        skip([0, 1, 2, 4][descriptor & 3])
        let sizeCode = descriptor >> 6
        let sizeCount = sizeCode == 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeCode
        var contentCount: Int?
        if sizeCount > 0 {
            let value = try integer(sizeCount)
            guard value >= 0 else { throw malformed("a zstd frame's size overflows", at: start) }
            contentCount = value + (sizeCount == 2 ? 256 : 0)
        }
        // An exponent of 2 in the upper five bits, eighths of that in the lower three.
        let needed = isSingleSegment ? contentCount ?? 0 : (8 + (windowByte & 7)) << (7 + (windowByte >> 3))
        guard needed <= limits.zstdWindowBytes else {
            throw CheckpointError(
                .unsupported, path: source.path, "the zstd file needs a window that is too large", offset: start,
                expected: "\(limits.zstdWindowBytes) bytes at the most", found: "\(needed)",
                advice: "compress it again without --long and --ultra")
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
    /// Unpacks a frame to see how long its content is.
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
