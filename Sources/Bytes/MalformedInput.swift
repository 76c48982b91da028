/// An error in bytes that break the rules of their format.
///
/// Parsers that do not know the file's path throw this error. A caller that knows the path adds it.
public struct MalformedInput: Error, Sendable, Equatable {
    /// A description of the problem, as a clause such as `the name appears twice`.
    public var problem: String
    /// The offset of the problem, in bytes from the start of the parsed bytes.
    public var offset: Int
    /// The name of the tensor that the error concerns; nil if there is none.
    public var tensor: String?
    /// A description of what the format requires at this offset.
    public var expected: String?
    /// A description of what was found at this offset.
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
