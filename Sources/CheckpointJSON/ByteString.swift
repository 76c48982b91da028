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
    public static func == (a: ByteString, b: ByteString) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

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

extension ByteString: ExpressibleByStringLiteral, CustomStringConvertible {
    /// The bytes of a literal.
    public init(stringLiteral text: String) { self.text = text }

    /// The text.
    public var description: String { text }
}
