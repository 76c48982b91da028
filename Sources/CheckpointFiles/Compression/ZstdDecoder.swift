import CZstd

/// Unpacks zstd frames, one at a time, from front to back.
///
/// Many frames can be unpacked by one, which is made slowly. One thread uses it at a time.
final class ZstdDecoder: @unchecked Sendable {
    private let source: any ByteSource
    private let context: OpaquePointer
    /// What of the frame was not read yet.
    private var rest = 0..<0
    private var input: [UInt8] = []
    private var inputPosition = 0
    private var isAtEnd = true
    /// Where bytes go that nobody wants.
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 64)

    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        guard let context = ZSTD_createDCtx() else {
            throw CheckpointError(.inputOutput, path: source.path, "there is no memory to unpack it")
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

    /// Goes to the start of the frame that is at `range` in the file.
    func begin(_ range: Range<Int>) {
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        rest = range
        input = []
        inputPosition = 0
        isAtEnd = false
    }

    /// Unpacks at most so many bytes that nobody wants; none at the end of the frame.
    func skip(_ count: Int) throws(CheckpointError) -> Int {
        try unpack(into: UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(count)))
    }

    /// Unpacks some bytes to the beginning of the buffer, which must have room for one; none at the end of the frame.
    ///
    /// Only then the frame's checksum and the length that its header gives were found to be right.
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
                    .malformed, path: source.path, "the zstd file is cut short", offset: rest.upperBound)
            }
        }
        return 0
    }
}
