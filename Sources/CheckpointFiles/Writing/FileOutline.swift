/// What a file will be, before any of it is written: where each tensor's bytes go, and what stands around them.
protocol FileOutline: Sendable {
    /// All bytes of the file.
    var byteCount: Int { get }
    /// Where the tensors' bytes go, in order.
    var ranges: [Range<Int>] { get }
    /// Whether what stands around the tensors has the CRC-32 of each in it.
    var needsChecksums: Bool { get }

    /// The bytes in front of the tensor at a place, behind the one before it; behind the last, all that is left.
    ///
    /// `checksums` are right for the tensors in front of that place.
    func bytes(before place: Int, checksums: [UInt32]) -> [UInt8]
}

extension FileOutline {
    /// Where ``bytes(before:checksums:)`` go.
    func start(before place: Int) -> Int { place == 0 ? 0 : ranges[place - 1].upperBound }
}

extension [UInt8] {
    /// Appends a number as little-endian bytes.
    mutating func append<Number: FixedWidthInteger>(littleEndian number: Number) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}
