/// The error for bytes that break the rules of their format: what is wrong, and where.
///
/// Parsers throw only this; a caller that knows the file's path adds it.
public struct MalformedInput: Error, Sendable, Equatable {
    /// What is wrong, as the middle of a sentence: `the name appears twice`.
    public var problem: String
    /// The offset of the error, in bytes from the start of the parsed bytes.
    public var offset: Int
    /// The tensor concerned, if there is one.
    public var tensor: String?
    /// What the format requires at this offset.
    public var expected: String?
    /// What was found there.
    public var found: String?

    /// An error at one offset of the input.
    public init(
        _ problem: String, at offset: Int, tensor: String? = nil, expected: String? = nil, found: String? = nil
    ) {
        self.problem = problem
        self.offset = offset
        self.tensor = tensor
        self.expected = expected
        self.found = found
    }
}
