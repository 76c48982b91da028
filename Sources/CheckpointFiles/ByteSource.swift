/// Bytes that can be read at any place, from any thread: a file, memory, an unpacked stream.
public protocol ByteSource: Sendable {
    /// What errors call it: the path as the user knows it.
    var path: String { get }

    /// How many bytes there are.
    var count: Int { get }

    /// Whether reading backwards begins anew from the start, so that one thread should read it all in order.
    var isSequential: Bool { get }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when the source does not give them.
    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError)

    /// Checks what could not be checked while it was read, to be called when all that was wanted has been read and nothing is being read.
    ///
    /// If it does not throw, every byte that was read before belongs to a unit (a frame of a compressed file) that was read to its end
    /// and has the length and the checksum that are recorded for it.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` where that is not so, or `inputOutput`.
    func finish() throws(CheckpointError)
}

extension ByteSource {
    /// False: most sources can be read anywhere.
    public var isSequential: Bool { false }

    /// Nothing: most sources have nothing to check.
    public func finish() throws(CheckpointError) {}

    /// The bytes of `range`, which must lie within the source.
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
    /// What errors call it.
    public let path: String
    private let contents: [UInt8]

    /// A source of `contents`, called `path` in errors.
    public init(_ contents: [UInt8], path: String) {
        self.contents = contents
        self.path = path
    }

    /// How many bytes there are.
    public var count: Int { contents.count }

    /// Copies the bytes from `offset` on.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when there are too few.
    public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        guard offset >= 0, offset <= contents.count - buffer.byteCount else {
            throw CheckpointError(.inputOutput, path: path, "the bytes end early", offset: offset)
        }
        for index in 0..<buffer.byteCount {
            buffer.storeBytes(of: contents[offset + index], toByteOffset: index, as: UInt8.self)
        }
    }
}
