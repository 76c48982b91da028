import Bytes
import CZstd
import Synchronization

/// A destination that compresses bytes into a seekable zstd file.
///
/// The file contains frames with content sizes and checksums, followed by a seek table. See RFC 8878, and
/// contrib/seekable_format in the zstd repository.
final class ZstdOutput: ByteSink {
    /// The compression level, which is the fastest regular one.
    ///
    /// In weights, only the exponents are compressible, and higher levels do not compress them better.
    private static let level: CInt = 1

    private struct State: ~Copyable {
        /// The unpacked content of the frame that is being filled.
        var content: [UInt8] = []
        /// The sizes of the finished frames in bytes, packed and unpacked.
        var frames: [(packed: Int, unpacked: Int)] = []
        /// The index in `cuts` of the end of the frame that is being filled.
        var nextCut = 0
        /// The number of unpacked bytes that have been written to this output.
        var position = 0
        /// The number of compressed bytes that have been written to the file.
        var end = 0
    }

    package let isSequential = true
    private let file: OutputFile
    /// The ascending offsets in the unpacked bytes at which frames end; the last offset is the total size.
    private let cuts: [Int]
    private let state = Mutex(State())

    /// Creates an output to `file`, with frames that end at `cuts`.
    init(_ file: OutputFile, cuts: [Int]) {
        self.file = file
        self.cuts = cuts
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError) {
        try state.withLock { state throws(CheckpointError) in
            precondition(offset == state.position, "bytes must be written in order")
            var rest = bytes[...]
            while !rest.isEmpty {
                let part = rest.prefix(cuts[state.nextCut] - state.position)
                state.content += part
                state.position += part.count
                rest = rest.dropFirst(part.count)
                if state.position == cuts[state.nextCut] { try pack(&state) }
            }
        }
    }

    package func finish() throws(CheckpointError) {
        try state.withLock { state throws(CheckpointError) in
            precondition(state.position == cuts.last ?? 0, "some bytes have not been written")
            var table: [UInt8] = []
            table.append(littleEndian: UInt32(0x184D_2A5E))
            table.append(littleEndian: UInt32(state.frames.count * 8 + 9))
            for frame in state.frames {
                table.append(littleEndian: UInt32(frame.packed))
                table.append(littleEndian: UInt32(frame.unpacked))
            }
            table.append(littleEndian: UInt32(state.frames.count))
            table.append(0)
            table.append(littleEndian: UInt32(0x8F92_EAB1))
            try file.write(table, at: state.end)
        }
        try file.finish()
    }

    /// Compresses the collected content into a frame and writes the frame to the file.
    private func pack(_ state: inout State) throws(CheckpointError) {
        let context = ZSTD_createCCtx()
        defer { ZSTD_freeCCtx(context) }
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, Self.level)
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
        let packed = [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(state.content.count)) { buffer, count in
            count = state.content.withUnsafeBytes {
                ZSTD_compress2(context, buffer.baseAddress, buffer.count, $0.baseAddress, $0.count)
            }
            // The only possible error here is running out of memory.
            if ZSTD_isError(count) != 0 { count = 0 }
        }
        guard !packed.isEmpty else { throw file.failure("not enough memory to compress the file") }
        try file.write(packed, at: state.end)
        state.end += packed.count
        state.frames.append((packed.count, state.content.count))
        state.content.removeAll(keepingCapacity: true)
        state.nextCut += 1
    }
}

extension FileByteLayout {
    /// The offsets at which frames end if the file is compressed: small tensors share a frame, and large tensors are
    /// split.
    var cuts: [Int] {
        var cuts: [Int] = []
        var start = 0
        for range in ranges where !range.isEmpty {
            if range.upperBound - start > Self.frameSize {
                if range.lowerBound > start { cuts.append(range.lowerBound) }
                start = range.lowerBound
                while range.upperBound - start > Self.frameSize {
                    start += Self.frameSize
                    cuts.append(start)
                }
            }
        }
        if start < byteCount || cuts.isEmpty { cuts.append(byteCount) }
        return cuts
    }

    /// The maximum unpacked size of a frame in bytes.
    ///
    /// Bytes outside tensors, such as headers, are not split, so they can make a frame larger.
    private static var frameSize: Int { 1 << 22 }
}
