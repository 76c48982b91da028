/// The location of a string in JSON text that ``JSONScanner`` has validated.
public struct JSONString: Sendable, Equatable {
    /// The range of the bytes between the quotes.
    public let range: Range<Int>
    /// Whether those bytes contain escapes, in which case the text differs from the bytes.
    public let hasEscapes: Bool

    /// Returns the text as UTF-8, with its escapes resolved.
    ///
    /// If the text is longer than `limit` bytes, it is cut off after the scalar that reaches the limit.
    ///
    /// `bytes` must be the bytes that the scanner has read. The text is never longer than ``range``.
    public func decoded(from bytes: Span<UInt8>, limit: Int = .max) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(min(range.count, limit))
        var index = range.lowerBound
        while index < range.upperBound, text.count < limit || bytes[index] & 0xC0 == 0x80 {
            guard bytes[index] == UInt8(ascii: "\\") else {
                text.append(bytes[index])
                index += 1
                continue
            }
            index += 2
            switch bytes[index - 1] {
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "f"): text.append(0x0C)
            case UInt8(ascii: "n"): text.append(0x0A)
            case UInt8(ascii: "r"): text.append(0x0D)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "u"):
                var scalar = UInt32(unit(at: index, in: bytes))
                index += 4
                if scalar & 0xFC00 == 0xD800 {
                    scalar = 0x10000 + (scalar & 0x3FF) << 10 + UInt32(unit(at: index + 2, in: bytes)) & 0x3FF
                    index += 6
                }
                // The scanner rejects lone surrogates, so this is always a scalar.
                if let utf8 = Unicode.Scalar(scalar).flatMap(UTF8.encode) { text.append(contentsOf: utf8) }
            case let character: text.append(character)
            }
        }
        return text
    }

    private func unit(at index: Int, in bytes: Span<UInt8>) -> UInt16 {
        var unit: UInt16 = 0
        for offset in 0..<4 { unit = unit << 4 | (hexadecimalValue(bytes[index + offset]) ?? 0) }
        return unit
    }
}
