import CheckpointJSON

/// An error in a file or directory, with the evidence for it.
public struct CheckpointError: Error, Sendable, Equatable {
    /// The kind of failure, which tells a caller what to do next.
    public enum Category: String, Sendable, CaseIterable {
        /// The bytes match no known format or break the rules of their format, or files contradict each other.
        case malformed
        /// A format, model family, combination of options or value is not supported.
        case unsupported
        /// Values, or results computed from them, are not finite.
        case notFinite = "not_finite"
        /// Loading the file with Python would run code that does not belong to a model.
        case dangerous
        /// The file does not exist or may not be read.
        case notFound = "not_found"
        /// The output cannot be created.
        case cannotCreate = "cannot_create"
        /// Reading or writing failed.
        case inputOutput = "input_output"
        /// The caller asked to stop.
        case cancelled
    }

    /// The kind of failure.
    public var category: Category
    /// The file or directory concerned.
    public var path: String
    /// What is wrong.
    public var problem: String
    /// The name of the tensor concerned, if there is one.
    public var tensor: String?
    /// The byte offset in the file, if there is one.
    public var offset: Int?
    /// What was expected.
    public var expected: String?
    /// What was found instead.
    public var found: String?
    /// What the user can do about it.
    public var advice: String?

    /// Creates an error with its evidence.
    public init(
        _ category: Category, path: String, _ problem: String, tensor: String? = nil, offset: Int? = nil,
        expected: String? = nil, found: String? = nil, advice: String? = nil
    ) {
        self.category = category
        self.path = path
        self.problem = problem
        self.tensor = tensor
        self.offset = offset
        self.expected = expected
        self.found = found
        self.advice = advice
    }

    /// Creates an error from a parser's error in the file at `path`, in the part that begins at byte `base`.
    init(_ malformed: MalformedInput, path: String, base: Int = 0) {
        self.init(
            .malformed, path: path, malformed.problem, tensor: malformed.tensor, offset: base + malformed.offset,
            expected: malformed.expected, found: malformed.found)
    }
}

extension CheckpointError: CustomStringConvertible {
    /// One line that is safe to print to a terminal: `PATH: what is wrong (tensor "x", byte 123); what to do`.
    public var description: String {
        var line = path.printable(limit: 4096) + ": " + reason
        var place: [String] = []
        if let tensor { place.append("tensor \"" + tensor.printable(limit: 200) + "\"") }
        if let offset { place.append("byte \(offset)") }
        if !place.isEmpty { line += " (" + place.joined(separator: ", ") + ")" }
        if let advice { line += "; " + advice.printable(limit: 1000) }
        return line
    }

    /// What is wrong, what was expected and what was found, without the path, tensor, offset and advice.
    public var reason: String {
        var line = problem.printable(limit: 1000)
        let evidence = [
            expected.map { "expected " + $0.printable(limit: 200) }, found.map { "found " + $0.printable(limit: 200) },
        ].compactMap { $0 }
        if !evidence.isEmpty { line += ": " + evidence.joined(separator: ", ") }
        return line
    }
}

/// A problem that does not prevent reading a checkpoint but that the user should know about.
public struct CheckpointWarning: Sendable, Equatable {
    /// The file concerned.
    public var path: String
    /// What the problem is, in one sentence.
    public var message: String

    /// Creates a warning about the file at `path`.
    public init(path: String, _ message: String) {
        self.path = path
        self.message = message
    }
}
