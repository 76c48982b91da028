/// Parsing of numbers and text in the forms that Python writes into pickles.
///
/// Python's unpicklers also accept other forms, and disagree about some of them: one of them reads `010` as eight, and
/// another rejects it.
extension ArraySlice<UInt8> {
    private var areDigits: Bool { !isEmpty && allSatisfy { $0 &- UInt8(ascii: "0") < 10 } }

    /// Whether the bytes are a decimal integer without leading zeros.
    var isInteger: Bool {
        let digits = first == UInt8(ascii: "-") ? dropFirst() : self
        return digits.areDigits && (digits.first != UInt8(ascii: "0") || count == 1)
    }

    /// The value of a finite decimal floating-point number, `nan`, `inf` or `-inf`; nil for any other text.
    var floatingPoint: Double? {
        guard let value = Double(String(decoding: self, as: UTF8.self)) else { return nil }
        if ["nan", "inf", "-inf"].contains(where: { elementsEqual($0.utf8) }) { return value }
        let isSign = { (byte: UInt8) in byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") }
        let parts = drop { $0 == UInt8(ascii: "-") }.split(
            separator: UInt8(ascii: "e"), maxSplits: 1, omittingEmptySubsequences: false)
        let digits =
            parts[0].split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
            + parts.dropFirst().map { $0.drop(while: isSign) }
        return value.isFinite && digits.allSatisfy(\.areDigits) ? value : nil
    }

    /// Whether four hexadecimal digits follow each `\u`, and eight hexadecimal digits of a code point follow each `\U`.
    var hasWholeEscapes: Bool {
        var rest = self
        while let place = rest.firstIndex(of: UInt8(ascii: "\\")), place + 1 < rest.endIndex {
            let count =
                switch rest[place + 1] {
                case UInt8(ascii: "u"): 4
                case UInt8(ascii: "U"): 8
                default: 0
                }
            rest = rest[(place + 2)...]
            guard count > 0 else { continue }
            let digits = rest.prefix(count)
            guard digits.count == count, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
                let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16), code <= 0x10FFFF
            else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    var isUTF8: Bool { (try? UTF8Span(validating: span)) != nil }

    /// Whether the bytes are valid UTF-8, except that they can also encode surrogates.
    var isUTF8WithSurrogates: Bool {
        var rest = self
        while true {
            do throws(UTF8.ValidationError) {
                _ = try UTF8Span(validating: rest.span)
                return true
            } catch {
                rest = rest.dropFirst(error.byteOffsets.lowerBound)
                let bytes = Array(rest.prefix(3))
                guard bytes.count == 3, bytes[0] == 0xED, 0xA0...0xBF ~= bytes[1], 0x80...0xBF ~= bytes[2] else {
                    return false
                }
                rest = rest.dropFirst(3)
            }
        }
    }
}
