/// A buffered text output that sends its bytes in pieces of about 64 KiB.
///
/// After the first error, nothing more is sent, and ``finish()`` throws that error.
public struct ByteOutput {
    private static let pieceSize = 1 << 16

    private var buffer: [UInt8] = []
    private var failure: (any Error)?
    private let send: ([UInt8]) throws -> Void

    /// Creates an output that calls `send` with each piece.
    public init(to send: @escaping ([UInt8]) throws -> Void) {
        self.send = send
        buffer.reserveCapacity(Self.pieceSize + 1024)
    }

    /// Calls `write` with an output and returns the bytes that were written to it.
    ///
    /// - Throws: any error that `write` throws.
    public static func bytes(_ write: (consuming ByteOutput) throws -> Void) rethrows -> [UInt8] {
        var bytes: [UInt8] = []
        try withoutActuallyEscaping({ bytes += $0 }) { append in try write(ByteOutput(to: append)) }
        return bytes
    }

    /// Appends text.
    @_disfavoredOverload
    public mutating func write(_ text: String) {
        buffer.append(contentsOf: text.utf8)
        if buffer.count >= Self.pieceSize { flush() }
    }

    /// Appends a string literal.
    public mutating func write(_ text: StaticString) {
        text.withUTF8Buffer { buffer.append(contentsOf: $0) }
        if buffer.count >= Self.pieceSize { flush() }
    }

    /// Appends UTF-8 bytes.
    public mutating func write(_ text: ArraySlice<UInt8>) {
        buffer.append(contentsOf: text)
        if buffer.count >= Self.pieceSize { flush() }
    }

    /// Appends an integer in decimal.
    public mutating func write(_ number: Int) {
        guard number > 9 else { return write(number < 0 ? number.description : Self.digits[number]) }
        let start = buffer.count
        var rest = number
        while rest > 0 {
            buffer.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
            rest /= 10
        }
        buffer[start...].reverse()
    }

    private static let digits = (0...9).map { String($0) }

    /// Appends one byte of UTF-8.
    public mutating func write(byte: UInt8) {
        buffer.append(byte)
    }

    /// Appends the given number of spaces.
    public mutating func write(spaces: Int) {
        buffer.append(contentsOf: repeatElement(UInt8(ascii: " "), count: spaces))
    }

    /// Sends the bytes that are still in the buffer.
    ///
    /// - Throws: the first error from sending a piece, in this call or earlier.
    public mutating func finish() throws {
        flush()
        if let failure { throw failure }
    }

    private mutating func flush() {
        if failure == nil, !buffer.isEmpty {
            do { try send(buffer) } catch { failure = error }
        }
        buffer.removeAll(keepingCapacity: true)
    }
}
