import CheckpointJSON

/// Where the frames of a zstd file are, and what of the unpacked bytes each holds. (RFC 8878, section 3.)
///
/// Found without unpacking: by the seek table at the end where there is one (zstd's contrib/seekable_format), else by stepping from
/// block to block. Sizes and windows are held against the limits before anything is allocated for them.
struct ZstdFrames: Sendable {
    struct Frame: Sendable {
        /// In the file.
        var range: Range<Int>
        /// Where its content begins in the unpacked bytes, and how long it is; nil where the file does not say.
        var contentStart = 0
        var contentCount: Int?
    }

    private(set) var frames: [Frame] = []

    /// Finds the frames of a file.
    ///
    /// - Throws: ``CheckpointError``: `malformed`, `unsupported` where a window is too large, or `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        if let table = try Self.seekTable(source) {
            frames = table
        } else {
            try walk(source, limits: limits)
        }
        guard !frames.isEmpty else {
            throw CheckpointError(.malformed, path: source.path, "the zstd file holds nothing")
        }
    }

    /// Says how long the content of frame `index` is, which must come before all places behind it are asked for.
    mutating func setContentCount(_ count: Int, ofFrame index: Int) {
        frames[index].contentCount = count
    }

    /// Puts the frames' contents one behind the other; gives the length of all.
    mutating func placeContents(path: String) throws(CheckpointError) -> Int {
        var end = 0
        for index in frames.indices {
            frames[index].contentStart = end
            let (sum, overflow) = end.addingReportingOverflow(frames[index].contentCount ?? 0)
            guard !overflow else {
                throw CheckpointError(.malformed, path: path, "the unpacked size of the zstd file overflows")
            }
            end = sum
        }
        return end
    }

    // MARK: The seek table

    /// The table's footer: number of frames, descriptor, magic number.
    private static let footerSize = 9

    private static func seekTable(_ source: any ByteSource) throws(CheckpointError) -> [Frame]? {
        func malformed(_ problem: String, at offset: Int, expected: String? = nil, found: String? = nil)
            -> CheckpointError
        {
            CheckpointError(
                .malformed, path: source.path, problem, offset: offset, expected: expected, found: found)
        }
        guard source.count >= 8 + footerSize else { return nil }
        let footer = try source.bytes(source.count - footerSize..<source.count)
        guard footer.integer(at: 5, count: 4) == 0x8F92_EAB1 else { return nil }
        let count = footer.integer(at: 0, count: 4)
        let descriptor = footer[4]
        guard descriptor & 0x7C == 0 else {
            throw malformed("the zstd seek table has unknown flags", at: source.count - 5)
        }
        let entrySize = descriptor & 0x80 == 0 ? 8 : 12
        let tableCount = count * entrySize + footerSize
        guard count <= 1 << 20, source.count - 8 >= tableCount else {
            throw malformed(
                "the zstd seek table has more frames than fit", at: source.count - footerSize, found: "\(count)")
        }
        let tableStart = source.count - tableCount - 8
        let table = try source.bytes(tableStart..<source.count)
        guard table.integer(at: 0, count: 4) == 0x184D_2A5E, table.integer(at: 4, count: 4) == tableCount else {
            throw malformed("the zstd seek table is not in a frame of its own", at: tableStart)
        }
        var frames: [Frame] = []
        var position = 0
        for index in 0..<count {
            let packed = table.integer(at: 8 + index * entrySize, count: 4)
            guard packed <= tableStart - position else {
                throw malformed("the zstd seek table goes past the frames", at: tableStart + 8 + index * entrySize)
            }
            frames.append(
                Frame(
                    range: position..<position + packed,
                    contentCount: table.integer(at: 12 + index * entrySize, count: 4)))
            position += packed
        }
        guard position == tableStart else {
            throw malformed(
                "the zstd seek table does not cover the frames", at: tableStart, expected: "\(tableStart) bytes",
                found: "\(position)")
        }
        return frames
    }

    // MARK: Frame by frame

    private mutating func walk(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        func malformed(_ problem: String, at offset: Int) -> CheckpointError {
            CheckpointError(.malformed, path: source.path, problem, offset: offset)
        }
        func bytes(_ start: Int, _ count: Int) throws(CheckpointError) -> [UInt8] {
            guard count <= source.count - start else { throw malformed("the zstd file is cut short", at: source.count) }
            return try source.bytes(start..<start + count)
        }
        var position = 0
        while position < source.count {
            let start = position
            let magic = try bytes(position, 4).integer(at: 0, count: 4)
            if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
                let count = try bytes(position + 4, 4).integer(at: 0, count: 4)
                guard count <= source.count - position - 8 else {
                    throw malformed("the zstd file is cut short", at: source.count)
                }
                position += 8 + count
                continue
            }
            guard magic == 0xFD2F_B528 else {
                throw malformed("there is something behind a zstd frame that is none", at: position)
            }
            guard frames.count < 1 << 20 else { throw malformed("the zstd file has too many frames", at: position) }
            let descriptor = try bytes(position + 4, 1)[0]
            let isSingleSegment = descriptor & 0x20 != 0
            let sizeCode = Int(descriptor >> 6)
            let sizeCount = sizeCode == 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeCode
            let dictionaryCount = [0, 1, 2, 4][Int(descriptor & 3)]
            let headerCount = 5 + (isSingleSegment ? 0 : 1) + dictionaryCount + sizeCount
            let header = try bytes(position, headerCount)
            guard descriptor & 8 == 0 else { throw malformed("a zstd frame has unknown flags", at: position + 4) }
            var contentCount: Int?
            if sizeCount > 0 {
                let value = header.integer(at: headerCount - sizeCount, count: sizeCount)
                guard value >= 0 else { throw malformed("a zstd frame's size overflows", at: position) }
                contentCount = value + (sizeCount == 2 ? 256 : 0)
            }
            // An exponent of 2 in the upper five bits, eighths of that in the lower three.
            let window =
                isSingleSegment ? contentCount ?? 0 : (8 + Int(header[5] & 7)) << (7 + Int(header[5] >> 3))
            guard window <= limits.zstdWindowBytes else {
                throw CheckpointError(
                    .unsupported, path: source.path, "the zstd file needs a window that is too large", offset: position,
                    expected: "\(limits.zstdWindowBytes) bytes at the most", found: "\(window)",
                    advice: "compress it again without --long and --ultra")
            }
            position += headerCount
            var isLast = false
            while !isLast {
                let block = try bytes(position, 3).integer(at: 0, count: 3)
                isLast = block & 1 != 0
                let kind = block >> 1 & 3
                guard kind != 3 else { throw malformed("a zstd block is of an unknown kind", at: position) }
                position += 3 + (kind == 1 ? 1 : block >> 3)
            }
            if descriptor & 4 != 0 { position += 4 }
            guard position <= source.count else { throw malformed("the zstd file is cut short", at: source.count) }
            frames.append(Frame(range: start..<position, contentCount: contentCount))
        }
    }
}

extension [UInt8] {
    /// The little-endian integer of `count` bytes at `start`; -1 where it does not fit in 63 bits.
    func integer(at start: Int, count: Int) -> Int {
        var value: UInt64 = 0
        for index in (start..<start + count).reversed() { value = value << 8 | UInt64(self[index]) }
        return Int(exactly: value) ?? -1
    }
}
