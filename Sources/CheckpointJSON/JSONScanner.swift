public import Bytes

/// A pull parser for JSON (RFC 8259) that reads borrowed bytes from front to back and builds no values.
///
/// The scanner is stricter than most parsers. It validates UTF-8, and rejects byte order marks, lone surrogates,
/// numbers that do not follow the RFC's grammar, and anything after the document. Each method either steps over the
/// element that it is named after or throws `MalformedInput` with the offset of the error. Scanning takes linear time
/// and constant memory, and no method is recursive.
///
///     var more = try scanner.openObject()
///     while more {
///         let key = try scanner.key()
///         ...
///         more = try scanner.continueObject()
///     }
public struct JSONScanner: ~Escapable {
    /// The maximum nesting depth of objects and arrays that ``skipValue()`` accepts.
    public static let maximumDepth = 64

    private let bytes: Span<UInt8>

    /// The offset of the next byte to read.
    public private(set) var position = 0

    /// Creates a scanner that starts at the first byte of `bytes`.
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>) {
        self.bytes = bytes
    }

    // MARK: Structure

    /// Steps over `{` and returns whether the object has any members.
    ///
    /// If it has none, also steps over `}`.
    public mutating func openObject() throws(MalformedInput) -> Bool {
        try expect(UInt8(ascii: "{"), "an object")
        return try !closes(UInt8(ascii: "}"))
    }

    /// Steps over a member's name and the colon after it, and returns the name.
    public mutating func key() throws(MalformedInput) -> JSONString {
        let key = try string()
        try expect(UInt8(ascii: ":"), "':' after a member's name")
        return key
    }

    /// Steps over the separator after a member; returns true for `,` and false for `}`.
    public mutating func continueObject() throws(MalformedInput) -> Bool {
        try continues(until: UInt8(ascii: "}"), "',' or '}'")
    }

    /// Steps over `[` and returns whether the array has any elements.
    ///
    /// If it has none, also steps over `]`.
    public mutating func openArray() throws(MalformedInput) -> Bool {
        try expect(UInt8(ascii: "["), "an array")
        return try !closes(UInt8(ascii: "]"))
    }

    /// Steps over the separator after an element; returns true for `,` and false for `]`.
    public mutating func continueArray() throws(MalformedInput) -> Bool {
        try continues(until: UInt8(ascii: "]"), "',' or ']'")
    }

    /// Steps over `null` if it comes next, and returns whether it did.
    public mutating func skipNull() throws(MalformedInput) -> Bool {
        guard peek() == UInt8(ascii: "n") else { return false }
        try literal("null")
        return true
    }

    /// Checks that only white space remains.
    public mutating func end() throws(MalformedInput) {
        guard peek() == nil else { throw unexpected("nothing after the document") }
    }

    // MARK: Values

    /// Steps over a string and returns the location of its text.
    public mutating func string() throws(MalformedInput) -> JSONString {
        try expect(UInt8(ascii: "\""), "a string")
        let start = position
        var hasEscapes = false
        while true {
            skipPlainText()
            guard position < bytes.count else { throw unexpected("'\"' at the string's end") }
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return JSONString(range: start..<(position - 1), hasEscapes: hasEscapes)
            case UInt8(ascii: "\\"):
                hasEscapes = true
                try skipEscape()
            case ..<0x20:
                throw unexpected("an escaped control character")
            case 0x80...:
                try skipMultibyteScalar()
            default:
                position += 1
            }
        }
    }

    /// Steps over an integer without a sign, fraction or exponent, and returns its value.
    public mutating func unsignedInteger() throws(MalformedInput) -> UInt64 {
        guard let first = peek(), isDigit(first) else { throw unexpected("an unsigned integer") }
        let start = position
        var value: UInt64 = 0
        while position < bytes.count, isDigit(bytes[position]) {
            let digit = UInt64(bytes[position] &- UInt8(ascii: "0"))
            if position - start < 19 {
                value = value &* 10 &+ digit
            } else {
                let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
                let (sum, carry) = scaled.addingReportingOverflow(digit)
                guard !overflow, !carry else {
                    throw MalformedInput("the integer does not fit in 64 bits", at: start)
                }
                value = sum
            }
            position += 1
        }
        guard first != UInt8(ascii: "0") || position == start + 1 else {
            throw MalformedInput("the integer has a leading zero", at: start)
        }
        if position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
                throw unexpected("an integer without a fraction or exponent")
            default: break
            }
        }
        return value
    }

    /// Steps over a value of any type, and validates every byte of it.
    public mutating func skipValue() throws(MalformedInput) {
        try walk { (_) throws(MalformedInput) in }
    }

    /// A part of a value that ``walk(_:)`` reports.
    ///
    /// Numbers, `true`, `false` and `null` are not reported.
    enum Piece {
        case objectStart
        case objectEnd
        case key(JSONString)
        case string(JSONString)
    }

    /// Steps over a value of any type, validates every byte of it, and calls `visit` with each of its pieces.
    @inline(__always)
    mutating func walk(_ visit: (Piece) throws(MalformedInput) -> Void) throws(MalformedInput) {
        // One bit for each open container: 1 for an object, 0 for an array. The lowest bit belongs to the innermost
        // container.
        var containers: UInt64 = 0
        var depth = 0
        repeat {
            var opened = false
            switch peek() {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                guard depth < Self.maximumDepth else {
                    throw MalformedInput("the nesting is deeper than \(Self.maximumDepth) levels", at: position)
                }
                let isObject = bytes[position] == UInt8(ascii: "{")
                containers = containers << 1 | (isObject ? 1 : 0)
                depth += 1
                if isObject { try visit(.objectStart) }
                opened = isObject ? try openObject() : try openArray()
                if opened {
                    if isObject { try visit(.key(key())) }
                    continue
                }
                if isObject { try visit(.objectEnd) }
                depth -= 1
                containers >>= 1
            case UInt8(ascii: "\""): try visit(.string(string()))
            case UInt8(ascii: "t"): try literal("true")
            case UInt8(ascii: "f"): try literal("false")
            case UInt8(ascii: "n"): try literal("null")
            default: try number()
            }
            // A value has ended: continue in its container, and close all containers that end here.
            while depth > 0 {
                let isObject = containers & 1 == 1
                if isObject ? try continueObject() : try continueArray() {
                    if isObject { try visit(.key(key())) }
                    break
                }
                if isObject { try visit(.objectEnd) }
                depth -= 1
                containers >>= 1
            }
        } while depth > 0
    }

    /// Returns the text of `string` as UTF-8, with its escapes resolved.
    public func text(of string: JSONString) -> [UInt8] {
        string.decoded(from: bytes)
    }

    /// Returns the text of `string`, cut off after about 1000 bytes, for an error message.
    public func excerpt(of string: JSONString) -> String {
        String(decoding: string.decoded(from: bytes, limit: 1000), as: UTF8.self)
    }

    /// Returns whether the text of `string` equals `text`, comparing them byte by byte.
    public func matches(_ string: JSONString, _ text: String) -> Bool {
        if string.hasEscapes {
            // A byte of text takes at most six bytes of JSON (`\u0041`), so a string with a longer range cannot be
            // equal.
            return string.range.count <= 6 * text.utf8.count && self.text(of: string).elementsEqual(text.utf8)
        }
        guard string.range.count == text.utf8.count else { return false }
        let found = bytes.extracting(string.range)
        let isEqual = text.utf8.withContiguousStorageIfAvailable { expected in
            for index in found.indices where found[index] != expected[index] { return false }
            return true
        }
        return isEqual ?? false
    }

    // MARK: Lexical elements

    /// Skips white space and returns the next byte without stepping over it; nil at the end of the input.
    @inline(__always)
    public mutating func peek() -> UInt8? {
        while position < bytes.count {
            let byte = bytes[position]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
            position += 1
        }
        return nil
    }

    @inline(__always)
    private mutating func expect(_ byte: UInt8, _ what: StaticString) throws(MalformedInput) {
        guard peek() == byte else { throw unexpected(what) }
        position += 1
    }

    @inline(__always)
    private mutating func closes(_ byte: UInt8) throws(MalformedInput) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    @inline(__always)
    private mutating func continues(until close: UInt8, _ what: StaticString) throws(MalformedInput) -> Bool {
        let next = peek()
        guard next == UInt8(ascii: ",") || next == close else { throw unexpected(what) }
        position += 1
        return next == UInt8(ascii: ",")
    }

    private mutating func literal(_ word: StaticString) throws(MalformedInput) {
        for index in 0..<word.utf8CodeUnitCount {
            guard position < bytes.count, bytes[position] == word.utf8Start[index] else {
                throw unexpected("a JSON value")
            }
            position += 1
        }
    }

    private mutating func number() throws(MalformedInput) {
        let start = position
        if peek() == UInt8(ascii: "-") { position += 1 }
        guard position < bytes.count, isDigit(bytes[position]) else { throw unexpected("a JSON value") }
        let leadingZero = bytes[position] == UInt8(ascii: "0")
        let integerDigits = skipDigits()
        guard !leadingZero || integerDigits == 1 else {
            throw MalformedInput("the number has a leading zero", at: start)
        }
        if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            position += 1
            guard skipDigits() > 0 else { throw unexpected("a digit after the decimal point") }
        }
        if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            position += 1
            if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") {
                position += 1
            }
            guard skipDigits() > 0 else { throw unexpected("a digit in the exponent") }
        }
    }

    private mutating func skipDigits() -> Int {
        let start = position
        while position < bytes.count, isDigit(bytes[position]) { position += 1 }
        return position - start
    }

    @inline(__always)
    private func isDigit(_ byte: UInt8) -> Bool {
        byte &- UInt8(ascii: "0") < 10
    }

    /// Steps over bytes from 0x20 to 0x7F that are neither a quote nor a backslash, eight at a time.
    @inline(__always)
    private mutating func skipPlainText() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let high: UInt64 = 0x8080_8080_8080_8080
        let raw = bytes.bytes
        while position &+ 8 <= raw.byteCount {
            let word = raw.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self)
            let quote = word ^ (ones &* UInt64(UInt8(ascii: "\"")))
            let backslash = word ^ (ones &* UInt64(UInt8(ascii: "\\")))
            // In a byte x below 0x80, the high bit of (x - c) & ~x marks x < c; `word & high` marks all other bytes.
            let special =
                ((quote &- ones) & ~quote) | ((backslash &- ones) & ~backslash) | ((word &- (ones &* 0x20)) & ~word)
            let stop = (special | word) & high
            guard stop == 0 else {
                // Borrows propagate upwards, so the lowest mark is exact. It belongs to the first special byte.
                position &+= UInt64(littleEndian: stop).trailingZeroBitCount / 8
                return
            }
            position &+= 8
        }
        while position < bytes.count {
            let byte = bytes[position]
            guard byte >= 0x20, byte < 0x80, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") else { return }
            position &+= 1
        }
    }

    /// Steps over one escape.
    ///
    /// A surrogate pair counts as one escape.
    private mutating func skipEscape() throws(MalformedInput) {
        let start = position
        position += 1
        guard position < bytes.count else { throw unexpected("a character after '\\'") }
        switch bytes[position] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            position += 1
        case UInt8(ascii: "u"):
            position += 1
            let unit = try hexadecimalDigits()
            if UTF16.isTrailSurrogate(unit) { throw MalformedInput("the escape is a lone surrogate", at: start) }
            guard UTF16.isLeadSurrogate(unit) else { return }
            guard position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
                bytes[position + 1] == UInt8(ascii: "u")
            else { throw MalformedInput("the escape is a lone surrogate", at: start) }
            position += 2
            guard UTF16.isTrailSurrogate(try hexadecimalDigits()) else {
                throw MalformedInput("the escape is a lone surrogate", at: start)
            }
        default:
            throw unexpected("one of \"\\/bfnrtu after '\\'")
        }
    }

    private mutating func hexadecimalDigits() throws(MalformedInput) -> UInt16 {
        var unit: UInt16 = 0
        for _ in 0..<4 {
            guard position < bytes.count, let digit = hexadecimalValue(bytes[position]) else {
                throw unexpected("four hexadecimal digits after '\\u'")
            }
            unit = unit << 4 | digit
            position += 1
        }
        return unit
    }

    /// Steps over one scalar of two to four bytes.
    ///
    /// Throws for overlong forms, surrogates and scalars above U+10FFFF.
    private mutating func skipMultibyteScalar() throws(MalformedInput) {
        let first = bytes[position]
        let count: Int
        var second: ClosedRange<UInt8> = 0x80...0xBF
        switch first {
        case 0xC2...0xDF: count = 2
        case 0xE0: (count, second) = (3, 0xA0...0xBF)
        case 0xED: (count, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: count = 3
        case 0xF0: (count, second) = (4, 0x90...0xBF)
        case 0xF1...0xF3: count = 4
        case 0xF4: (count, second) = (4, 0x80...0x8F)
        default: throw MalformedInput("the text is not UTF-8", at: position)
        }
        guard position + count <= bytes.count, second.contains(bytes[position + 1]) else {
            throw MalformedInput("the text is not UTF-8", at: position)
        }
        for index in 2..<max(2, count) where bytes[position + index] & 0xC0 != 0x80 {
            throw MalformedInput("the text is not UTF-8", at: position)
        }
        position += count
    }

    /// Returns the error for the byte at ``position``, where `what` was expected.
    @inline(never)
    public func unexpected(_ what: StaticString) -> MalformedInput {
        let found: String
        if position >= bytes.count {
            found = "the end"
        } else {
            let byte = bytes[position]
            found =
                (0x21..<0x7F).contains(byte)
                ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x" + String(byte, radix: 16, uppercase: true)
        }
        return MalformedInput("the JSON is not valid", at: position, expected: what.description, found: found)
    }
}

func hexadecimalValue(_ byte: UInt8) -> UInt16? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt16(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt16(byte - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt16(byte - UInt8(ascii: "A") + 10)
    default: nil
    }
}
