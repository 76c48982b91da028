import Bytes
import CZstd

/// A decoder that unpacks zstd frames, one at a time and each from start to end.
///
/// Creating a decoder is slow, so a decoder is reused for many frames. Only one thread can use a decoder at a time.
final class ZstdDecoder: @unchecked Sendable {
    private let source: any ByteSource
    private let context: OpaquePointer
    /// The range in the file of the frame's bytes that have not been read yet.
    private var rest = 0..<0
    private var input: [UInt8] = []
    private var inputPosition = 0
    private var isAtEnd = true
    /// The destination for bytes that are skipped.
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 64)

    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        guard let context = ZSTD_createDCtx() else {
            throw CheckpointError(.inputOutput, path: source.path, "not enough memory to decompress the file")
        }
        let windowLog = CInt(limits.zstdWindowBytes.bitWidth - 1 - limits.zstdWindowBytes.leadingZeroBitCount)
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLog)
        self.source = source
        self.context = context
    }

    deinit {
        ZSTD_freeDCtx(context)
        scratch.deallocate()
    }

    /// Starts unpacking the frame at `range` in the file.
    func begin(_ range: Range<Int>) {
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        rest = range
        input = []
        inputPosition = 0
        isAtEnd = false
    }

    /// Unpacks and discards at most `count` bytes, and returns their number, or 0 at the end of the frame.
    func skip(_ count: Int) throws(CheckpointError) -> Int {
        try unpack(into: UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(count)))
    }

    /// Unpacks bytes into `buffer`, which must not be empty, and returns their number, or 0 at the end of the frame.
    ///
    /// Until this function returns 0, neither the frame's checksum nor the size in its header has been verified.
    func unpack(into buffer: UnsafeMutableRawBufferPointer) throws(CheckpointError) -> Int {
        while !isAtEnd {
            if inputPosition == input.count, !rest.isEmpty {
                input = try source.bytes(rest.prefix(1 << 17))
                rest = rest.dropFirst(input.count)
                inputPosition = 0
            }
            let isInputEmpty = inputPosition == input.count
            var output = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
            let status = input.withUnsafeBytes { bytes in
                var pending = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: inputPosition)
                let status = ZSTD_decompressStream(context, &output, &pending)
                inputPosition = pending.pos
                return status
            }
            guard ZSTD_isError(status) == 0 else {
                throw CheckpointError(
                    .malformed, path: source.path,
                    "the zstd file cannot be unpacked: " + String(cString: ZSTD_getErrorName(status)),
                    offset: rest.lowerBound - input.count + inputPosition)
            }
            isAtEnd = status == 0
            if output.pos > 0 { return output.pos }
            guard isAtEnd || !isInputEmpty else {
                throw CheckpointError(
                    .malformed, path: source.path, "the zstd file is truncated", offset: rest.upperBound)
            }
        }
        return 0
    }
}
