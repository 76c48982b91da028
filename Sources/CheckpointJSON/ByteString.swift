import Glibc

/// Text that is compared, hashed and ordered by its UTF-8 bytes: a name, or a key, from a file.
///
/// Swift strings are compared by canonical equivalence: "é" as one scalar equals "e" followed by a combining accent. File formats
/// have no such rule, so a dictionary whose keys are names from a file uses this type; with `String` two names could become one.
public struct ByteString: Sendable {
    /// The text, with its original bytes.
    public let text: String

    /// Wraps `text` without normalising it.
    public init(_ text: some StringProtocol) { self.text = String(text) }
}

extension ByteString: Hashable {
    /// Whether the bytes are the same.
    public static func == (a: ByteString, b: ByteString) -> Bool {
        let count = a.text.utf8.count
        guard count == b.text.utf8.count else { return false }
        var (a, b) = (a.text, b.text)
        // One memcmp, because a loop over the bytes doubles the time that dictionaries take.
        return a.withUTF8 { a in
            b.withUTF8 { b in
                guard let a = a.baseAddress, let b = b.baseAddress else { return count == 0 }
                return memcmp(a, b, count) == 0
            }
        }
    }

    /// Hashes the bytes and a terminator, 0xFF, that UTF-8 never contains.
    public func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)
    }
}

extension ByteString: Comparable {
    /// Whether `a` comes before `b` in the order of their bytes.
    public static func < (a: ByteString, b: ByteString) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
}

extension CaseIterable where Self: RawRepresentable<String> {
    /// The case whose raw value has these bytes, or nil; `init(rawValue:)` would compare by canonical equivalence.
    package init?(_ text: ByteString) {
        guard let value = Self.allCases.first(where: { ByteString($0.rawValue) == text }) else { return nil }
        self = value
    }
}

// Compared by bytes, not by characters: a dot and a combining accent after it are one character.
extension Substring {
    /// The text without the bytes of `prefix`; nil if it does not begin with them.
    package func dropping(prefix: String) -> Substring? {
        utf8.starts(with: prefix.utf8) ? self[utf8.index(startIndex, offsetBy: prefix.utf8.count)...] : nil
    }

    /// The text without the bytes of `suffix`; nil if it does not end with them.
    package func dropping(suffix: String) -> Substring? {
        var end = endIndex
        // Backwards, because most texts already differ in their last byte.
        for byte in suffix.utf8.reversed() {
            guard end > startIndex else { return nil }
            utf8.formIndex(before: &end)
            guard utf8[end] == byte else { return nil }
        }
        return self[..<end]
    }
}

extension String {
    /// The text without the bytes of `prefix`; nil if it does not begin with them.
    package func dropping(prefix: String) -> Substring? { self[...].dropping(prefix: prefix) }

    /// The text without the bytes of `suffix`; nil if it does not end with them.
    package func dropping(suffix: String) -> Substring? { self[...].dropping(suffix: suffix) }
}

extension ByteString: ExpressibleByStringLiteral, CustomStringConvertible {
    /// Wraps a literal.
    public init(stringLiteral text: String) { self.text = text }

    /// The text.
    public var description: String { text }
}
