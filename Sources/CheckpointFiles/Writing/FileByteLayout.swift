/// The byte layout of a file to write: the ranges of the tensors, and the bytes around the tensors.
protocol FileByteLayout: Sendable {
    /// The size of the file in bytes.
    var byteCount: Int { get }
    /// The byte ranges of the tensors, in file order.
    var ranges: [Range<Int>] { get }
    /// Whether the bytes around the tensors include each tensor's CRC-32.
    var needsChecksums: Bool { get }

    /// Returns the bytes between the tensor at `place` and the previous tensor or the start of the file.
    ///
    /// If `place` is the number of tensors, returns the bytes after the last tensor. If the layout needs checksums, the
    /// first `place` elements of `checksums` must be valid.
    func bytes(before place: Int, checksums: [UInt32]) -> [UInt8]
}

extension FileByteLayout {
    /// Returns the offset in the file of the bytes that ``bytes(before:checksums:)`` returns.
    func start(before place: Int) -> Int { place == 0 ? 0 : ranges[place - 1].upperBound }
}

extension [UInt8] {
    /// Appends a number as little-endian bytes.
    mutating func append<Number: FixedWidthInteger>(littleEndian number: Number) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}
