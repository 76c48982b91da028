import Glibc

/// Text that is compared, hashed and ordered by its UTF-8 bytes, such as a name or key from a file.
///
/// Swift compares strings by canonical equivalence: "é" as one scalar equals "e" followed by a combining accent. File
/// formats have no such rule, so dictionaries whose keys are names from a file use this type. With `String` keys, two
/// different names could become one.
public struct ByteString: Sendable {
    /// The text, with its original bytes.
    public let text: String

    /// Creates a byte string from `text` without normalising it.
    public init(_ text: some StringProtocol) { self.text = String(text) }
}

extension ByteString: Hashable {
    /// Returns whether `a` and `b` have the same bytes.
    public static func == (a: ByteString, b: ByteString) -> Bool {
        let count = a.text.utf8.count
        guard count == b.text.utf8.count else { return false }
        var (a, b) = (a.text, b.text)
        // Use memcmp, because dictionary operations take twice as long with a loop over the bytes.
        return a.withUTF8 { a in
            b.withUTF8 { b in
                guard let a = a.baseAddress, let b = b.baseAddress else { return count == 0 }
                return memcmp(a, b, count) == 0
            }
        }
    }

    /// Hashes the bytes and a terminator, 0xFF, which UTF-8 never contains.
    public func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)
    }
}

extension ByteString: Comparable {
    /// Returns whether `a` comes before `b` in the order of their bytes.
    public static func < (a: ByteString, b: ByteString) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
}

extension CaseIterable where Self: RawRepresentable<String> {
    /// Creates the case whose raw value has the same bytes as `text`; nil if there is none.
    ///
    /// `init(rawValue:)` would compare the values by canonical equivalence.
    package init?(_ text: ByteString) {
        guard let value = Self.allCases.first(where: { ByteString($0.rawValue) == text }) else { return nil }
        self = value
    }
}

// These functions compare bytes instead of characters, because a dot and a combining accent after it form one
// character.
extension Substring {
    /// Returns the text without the bytes of `prefix`; nil if it does not begin with these bytes.
    package func dropping(prefix: String) -> Substring? {
        utf8.starts(with: prefix.utf8) ? self[utf8.index(startIndex, offsetBy: prefix.utf8.count)...] : nil
    }

    /// Returns the text without the bytes of `suffix`; nil if it does not end with these bytes.
    package func dropping(suffix: String) -> Substring? {
        var end = endIndex
        // Compare backwards, because most strings differ from the suffix in their last byte.
        for byte in suffix.utf8.reversed() {
            guard end > startIndex else { return nil }
            utf8.formIndex(before: &end)
            guard utf8[end] == byte else { return nil }
        }
        return self[..<end]
    }
}

extension String {
    /// Returns the text without the bytes of `prefix`; nil if it does not begin with these bytes.
    package func dropping(prefix: String) -> Substring? { self[...].dropping(prefix: prefix) }

    /// Returns the text without the bytes of `suffix`; nil if it does not end with these bytes.
    package func dropping(suffix: String) -> Substring? { self[...].dropping(suffix: suffix) }
}

extension ByteString: ExpressibleByStringLiteral, CustomStringConvertible {
    /// Creates a byte string from a string literal.
    public init(stringLiteral text: String) { self.text = text }

    /// The text.
    public var description: String { text }
}
