/// The byte layout of a file before it is written: where each tensor's bytes go, and the bytes around them.
protocol FileByteLayout: Sendable {
    /// The size of the file in bytes.
    var byteCount: Int { get }
    /// The byte ranges of the tensors, in file order.
    var ranges: [Range<Int>] { get }
    /// Whether the bytes around the tensors include each tensor's CRC-32.
    var needsChecksums: Bool { get }

    /// Returns the bytes between the tensor at `place` and the one before it, or after the last tensor.
    ///
    /// `checksums` must be valid for the tensors before `place`.
    func bytes(before place: Int, checksums: [UInt32]) -> [UInt8]
}

extension FileByteLayout {
    /// Returns the offset in the file of ``bytes(before:checksums:)``.
    func start(before place: Int) -> Int { place == 0 ? 0 : ranges[place - 1].upperBound }
}

extension [UInt8] {
    /// Appends a number as little-endian bytes.
    mutating func append<Number: FixedWidthInteger>(littleEndian number: Number) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}
