import CZstd
import Synchronization

/// The bytes that a zstd file unpacks to, unpacked as they are read.
///
/// Reading forwards goes on where reading stopped. Reading elsewhere begins at the start of the frame that holds the place, which is
/// cheap where frames are small (a seekable archive) and dear where one frame is all there is.
final class ZstdSource: ByteSource {
    let path: String
    let count: Int
    /// Whether the content is one frame, so that reading backwards begins from the start.
    let isSequential: Bool

    private let source: any ByteSource
    private let frames: ZstdFrames
    private let limits: ReadLimits
    /// Those that nobody uses now.
    private let decoders = Mutex<[ZstdDecoder]>([])

    /// Reads where the frames are; where a frame does not say how long its content is, that is unpacked once to see.
    ///
    /// - Throws: ``CheckpointError``: `malformed`, `unsupported` or `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        self.source = source
        self.limits = limits
        path = source.path
        var frames = try ZstdFrames(source, limits: limits)
        let most = max(limits.unpackedBytes, source.count.multiplied(clamped: limits.unpackedRatio))
        for (index, frame) in frames.frames.enumerated() where frame.contentCount == nil {
            let decoder = try ZstdDecoder(source, frame.range, contentStart: 0, limits: limits)
            frames.setContentCount(try decoder.countContent(limit: most), ofFrame: index)
        }
        count = try frames.placeContents(path: path)
        guard count <= most else {
            throw CheckpointError(
                .malformed, path: path, "the zstd file unpacks to more bytes than the limit allows",
                expected: "\(most) at the most", found: "\(count)")
        }
        self.frames = frames
        isSequential = frames.frames.contains { ($0.contentCount ?? 0) > limits.seekableFrameBytes }
    }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        guard buffer.byteCount > 0 else { return }
        guard offset >= 0, offset <= count - buffer.byteCount else {
            throw CheckpointError(.inputOutput, path: path, "the bytes end early", offset: offset)
        }
        let frame = frame(at: offset)
        let decoder: ZstdDecoder
        if let waiting = takeDecoder(before: offset, notBefore: frame.contentStart) {
            decoder = waiting
        } else {
            decoder = try ZstdDecoder(
                source, frame.range.lowerBound..<framesEnd, contentStart: frame.contentStart, limits: limits)
        }
        try decoder.skip(to: offset)
        try decoder.read(into: &buffer)
        // The checksum of the last frame stands behind its last byte.
        if decoder.position == count { try decoder.finish() }
        decoders.withLock { decoders in
            decoders.append(decoder)
            // Each holds a window; more than there are threads are of no use.
            if decoders.count > 2 { decoders.removeFirst() }
        }
    }

    /// Where the last frame ends; a seek table may follow.
    private var framesEnd: Int { frames.frames.last?.range.upperBound ?? 0 }

    private func frame(at offset: Int) -> ZstdFrames.Frame {
        var low = 0
        var high = frames.frames.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if frames.frames[middle].contentStart <= offset { low = middle } else { high = middle }
        }
        return frames.frames[low]
    }

    private func takeDecoder(before offset: Int, notBefore start: Int) -> ZstdDecoder? {
        decoders.withLock { decoders in
            let fit = decoders.indices.filter { (start...offset).contains(decoders[$0].position) }
            return fit.max { decoders[$0].position < decoders[$1].position }.map { decoders.remove(at: $0) }
        }
    }
}

/// Unpacks forwards from the start of a frame, on into the frames behind it.
///
/// One thread uses it at a time: who takes it out of its source's list.
private final class ZstdDecoder: @unchecked Sendable {
    /// Where the next byte that it gives is in the unpacked bytes.
    private(set) var position: Int

    private let source: any ByteSource
    private let context: OpaquePointer
    private let end: Int
    private var next: Int
    private var input: [UInt8] = []
    private var inputPosition = 0
    private var isAtFrameEnd = true

    init(
        _ source: any ByteSource, _ range: Range<Int>, contentStart: Int, limits: ReadLimits
    ) throws(CheckpointError) {
        guard let context = ZSTD_createDCtx() else {
            throw CheckpointError(.inputOutput, path: source.path, "there is no memory to unpack it")
        }
        let windowLog = CInt(limits.zstdWindowBytes.bitWidth - 1 - limits.zstdWindowBytes.leadingZeroBitCount)
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLog)
        self.source = source
        self.context = context
        position = contentStart
        next = range.lowerBound
        end = range.upperBound
    }

    deinit {
        ZSTD_freeDCtx(context)
    }

    func read(into buffer: inout MutableRawSpan) throws(CheckpointError) {
        var done = 0
        while done < buffer.byteCount {
            let given = try unpack(into: &buffer, at: done)
            guard given > 0 else {
                throw CheckpointError(.malformed, path: source.path, "the zstd file unpacks to less than it says")
            }
            done += given
        }
    }

    /// Unpacks to the end, where nothing may come any more.
    func finish() throws(CheckpointError) {
        var scratch: [UInt8] = [0]
        var span = scratch.mutableSpan
        var bytes = span.mutableBytes
        guard try unpack(into: &bytes, at: 0) == 0 else {
            throw CheckpointError(.malformed, path: source.path, "the zstd file unpacks to more than it says")
        }
    }

    func skip(to target: Int) throws(CheckpointError) {
        guard position < target else { return }
        var scratch = [UInt8](repeating: 0, count: min(1 << 17, target - position))
        while position < target {
            if target - position < scratch.count { scratch.removeLast(scratch.count - (target - position)) }
            var span = scratch.mutableSpan
            var bytes = span.mutableBytes
            try read(into: &bytes)
        }
    }

    /// Unpacks to the end.
    func countContent(limit: Int) throws(CheckpointError) -> Int {
        var scratch = [UInt8](repeating: 0, count: 1 << 17)
        while true {
            var span = scratch.mutableSpan
            var bytes = span.mutableBytes
            guard try unpack(into: &bytes, at: 0) > 0 else { return position }
            guard position <= limit else {
                throw CheckpointError(
                    .malformed, path: source.path, "the zstd file unpacks to more bytes than the limit allows",
                    expected: "\(limit) at the most")
            }
        }
    }

    /// Unpacks some bytes to the buffer's rest; none at the end of the input.
    private func unpack(into buffer: inout MutableRawSpan, at done: Int) throws(CheckpointError) -> Int {
        while true {
            if inputPosition == input.count, next < end {
                input = try source.bytes(next..<min(next + 1 << 17, end))
                next += input.count
                inputPosition = 0
            }
            let isInputEmpty = inputPosition == input.count
            if isInputEmpty, isAtFrameEnd { return 0 }
            var given = 0
            let status = buffer.withUnsafeMutableBytes { target in
                input.withUnsafeBytes { bytes in
                    var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: done)
                    var pending = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: inputPosition)
                    let status = ZSTD_decompressStream(context, &output, &pending)
                    inputPosition = pending.pos
                    given = output.pos - done
                    return status
                }
            }
            guard ZSTD_isError(status) == 0 else {
                throw CheckpointError(
                    .malformed, path: source.path,
                    "the zstd file cannot be unpacked: " + String(cString: ZSTD_getErrorName(status)),
                    offset: next - input.count + inputPosition)
            }
            isAtFrameEnd = status == 0
            position += given
            if given > 0 { return given }
            guard !isInputEmpty else {
                throw CheckpointError(.malformed, path: source.path, "the zstd file is cut short", offset: end)
            }
        }
    }
}
