/// A string's place in the JSON text that ``JSONScanner`` has checked.
public struct JSONString: Sendable, Equatable {
    /// The bytes between the quotes.
    public let range: Range<Int>
    /// Whether the text differs from those bytes because it has escapes in it.
    public let hasEscapes: Bool

    /// The text with its escapes resolved, as UTF-8; never longer than the range.
    ///
    /// `bytes` are those that the scanner read.
    public func decoded(from bytes: Span<UInt8>) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(range.count)
        var index = range.lowerBound
        while index < range.upperBound {
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
                var units = [unit(at: index, in: bytes)]
                index += 4
                if UTF16.isLeadSurrogate(units[0]) {
                    units.append(unit(at: index + 2, in: bytes))
                    index += 6
                }
                text.append(contentsOf: String(decoding: units, as: UTF16.self).utf8)
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
