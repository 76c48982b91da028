/// What is wrong with bytes that should follow a format, and where.
///
/// Parsers throw this alone; whoever knows the file's path adds it.
public struct MalformedInput: Error, Sendable, Equatable {
    /// What is wrong, as the middle of a sentence: `the name appears twice`.
    public var problem: String
    /// Where, in bytes from the start of what was parsed.
    public var offset: Int
    /// The tensor concerned, where there is one.
    public var tensor: String?
    /// What the format asks for at this place.
    public var expected: String?
    /// What stands there.
    public var found: String?

    /// Evidence about one place in the input.
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
