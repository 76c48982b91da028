import Glibc

/// Text that is compared, hashed and ordered by its UTF-8 bytes: a name, or a key, from a file.
///
/// Swift strings are equal where they look equal: "é" as one scalar is "e" followed by an accent. File formats know no such
/// rule. A dictionary from names in a file to anything has keys of this type, or two names become one.
public struct ByteString: Sendable {
    /// The text, its bytes as they were.
    public let text: String

    /// The bytes of `text`, which stay as they are.
    public init(_ text: some StringProtocol) { self.text = String(text) }
}

extension ByteString: Hashable {
    /// Whether the bytes are the same.
    public static func == (a: ByteString, b: ByteString) -> Bool {
        let count = a.text.utf8.count
        guard count == b.text.utf8.count else { return false }
        var (a, b) = (a.text, b.text)
        // One call, where comparing byte after byte doubles the time of a dictionary.
        return a.withUTF8 { a in
            b.withUTF8 { b in
                guard let a = a.baseAddress, let b = b.baseAddress else { return count == 0 }
                return memcmp(a, b, count) == 0
            }
        }
    }

    /// Hashes the bytes, and an end that no text has in it.
    public func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)
    }
}

extension ByteString: Comparable {
    /// Whether the bytes of `a` come first.
    public static func < (a: ByteString, b: ByteString) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
}

extension CaseIterable where Self: RawRepresentable<String> {
    /// The case whose raw value has these bytes; `init(rawValue:)` compares as Swift strings do.
    package init?(_ text: ByteString) {
        guard let value = Self.allCases.first(where: { ByteString($0.rawValue) == text }) else { return nil }
        self = value
    }
}

// Told by bytes, not by characters: an accent after a dot makes one character of both.
extension Substring {
    /// The text without the bytes of `prefix`; nil where it does not begin with them.
    package func dropping(prefix: String) -> Substring? {
        utf8.starts(with: prefix.utf8) ? self[utf8.index(startIndex, offsetBy: prefix.utf8.count)...] : nil
    }

    /// The text without the bytes of `suffix`; nil where it does not end with them.
    package func dropping(suffix: String) -> Substring? {
        var end = endIndex
        // From the last byte on: most texts differ in it.
        for byte in suffix.utf8.reversed() {
            guard end > startIndex else { return nil }
            utf8.formIndex(before: &end)
            guard utf8[end] == byte else { return nil }
        }
        return self[..<end]
    }
}

extension String {
    /// The text without the bytes of `prefix`; nil where it does not begin with them.
    package func dropping(prefix: String) -> Substring? { self[...].dropping(prefix: prefix) }

    /// The text without the bytes of `suffix`; nil where it does not end with them.
    package func dropping(suffix: String) -> Substring? { self[...].dropping(suffix: suffix) }
}

extension ByteString: ExpressibleByStringLiteral, CustomStringConvertible {
    /// The bytes of a literal.
    public init(stringLiteral text: String) { self.text = text }

    /// The text.
    public var description: String { text }
}
