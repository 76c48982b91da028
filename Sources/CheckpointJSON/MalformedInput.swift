/// The error for bytes that break the rules of their format: what is wrong, and where.
///
/// Parsers throw no other error; a caller that knows the file's path adds the path.
public struct MalformedInput: Error, Sendable, Equatable {
    /// What is wrong, as the middle of a sentence: `the name appears twice`.
    public var problem: String
    /// The offset of the error, in bytes from the start of the parsed bytes.
    public var offset: Int
    /// The tensor concerned, if there is one.
    public var tensor: String?
    /// What the format requires at this offset.
    public var expected: String?
    /// What was found at this offset.
    public var found: String?

    /// Creates an error at an offset in the input.
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
