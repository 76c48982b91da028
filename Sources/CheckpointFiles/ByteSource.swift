/// A source of bytes that any thread can read at any offset: a file, memory or an unpacked stream.
public protocol ByteSource: Sendable {
    /// The path that errors report, as the user knows it.
    var path: String { get }

    /// The number of bytes.
    var count: Int { get }

    /// Whether reading backwards may restart from the beginning; if so, one thread should read everything in order.
    var isSequential: Bool { get }

    /// Fills `buffer` with the bytes that begin at `offset`.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when the bytes cannot be read.
    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError)

    /// Completes the checks that cannot be made while reading.
    ///
    /// Call this function after the last read, when no thread is reading any more. If it returns, every byte read so
    /// far belongs to a unit (a frame of a compressed file) that has been read to its end and matches its recorded
    /// length and checksum.
    ///
    /// - Throws: ``CheckpointError``: `malformed` when a unit does not match, or `inputOutput`.
    func finish() throws(CheckpointError)
}

extension ByteSource {
    /// False: most sources allow random access.
    public var isSequential: Bool { false }

    /// Does nothing: most sources have nothing left to check.
    public func finish() throws(CheckpointError) {}

    /// Reads the bytes of `range`, which must be within the source.
    package func bytes(_ range: Range<Int>) throws(CheckpointError) -> [UInt8] {
        var failure: CheckpointError?
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, initializedCount in
            guard !range.isEmpty else { return }
            // `read` fills the whole buffer or throws.
            var span = MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(buffer))
            do throws(CheckpointError) {
                try read(into: &span, at: range.lowerBound)
                initializedCount = range.count
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}

/// Bytes in memory.
public struct MemorySource: ByteSource {
    /// The path that errors report.
    public let path: String
    private let contents: [UInt8]

    /// Creates a source of `contents`; errors report `path`.
    public init(_ contents: [UInt8], path: String) {
        self.contents = contents
        self.path = path
    }

    /// The number of bytes.
    public var count: Int { contents.count }

    /// Fills `buffer` with the bytes that begin at `offset`.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when the bytes are not all within the contents.
    public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        guard offset >= 0, offset <= contents.count - buffer.byteCount else {
            throw CheckpointError(.inputOutput, path: path, "unexpected end of data", offset: offset)
        }
        for index in 0..<buffer.byteCount {
            buffer.storeBytes(of: contents[offset + index], toByteOffset: index, as: UInt8.self)
        }
    }
}
