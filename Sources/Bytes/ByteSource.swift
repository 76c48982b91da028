/// A source of bytes that any thread can read at any offset, such as a file, a buffer or a decompressed stream.
public protocol ByteSource: Sendable {
    /// The path to report in errors.
    var path: String { get }

    /// The number of bytes in the source.
    var count: Int { get }

    /// Whether the source should be read from front to back by one thread.
    ///
    /// Reading at an earlier offset of such a source can restart decompression from the beginning.
    var isSequential: Bool { get }

    /// Fills `buffer` with the bytes of the source, starting at `offset`.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when the bytes cannot be read.
    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError)

    /// Completes the checks that cannot be made while reading.
    ///
    /// Call this method after all threads have finished reading. In a compressed file, it finishes reading each frame
    /// that has been read in part, and verifies the frame's recorded length and checksum.
    ///
    /// - Throws: ``CheckpointError``: `malformed` when a frame does not match its recorded length or checksum, or
    ///   `inputOutput`.
    func finish() throws(CheckpointError)
}

extension ByteSource {
    /// False by default, because most sources allow efficient random access.
    public var isSequential: Bool { false }

    /// Does nothing by default, because most sources have nothing left to check.
    public func finish() throws(CheckpointError) {}

    /// Reads the bytes in `range`, which must be within the source.
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

/// A source of bytes that are in memory.
public struct MemorySource: ByteSource {
    /// The path to report in errors.
    public let path: String
    private let contents: [UInt8]

    /// Creates a source from `contents`, with the path to report in errors.
    public init(_ contents: [UInt8], path: String) {
        self.contents = contents
        self.path = path
    }

    /// The number of bytes in the source.
    public var count: Int { contents.count }

    /// Fills `buffer` with the bytes of the source, starting at `offset`.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when the range extends beyond the contents.
    public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        guard offset >= 0, offset <= contents.count - buffer.byteCount else {
            throw CheckpointError(.inputOutput, path: path, "unexpected end of data", offset: offset)
        }
        for index in 0..<buffer.byteCount {
            buffer.storeBytes(of: contents[offset + index], toByteOffset: index, as: UInt8.self)
        }
    }
}
