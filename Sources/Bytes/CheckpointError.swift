/// An error that concerns a file or directory, with details of what was expected and found.
public struct CheckpointError: Error, Sendable, Equatable {
    /// A kind of failure.
    public enum Category: String, Sendable, CaseIterable {
        /// The bytes match no known format or break the rules of their format, or files contradict each other.
        case malformed
        /// A format, model family, combination of options or value is not supported.
        case unsupported
        /// Values, or results computed from them, are not finite.
        case notFinite = "not_finite"
        /// Loading the file with Python would run arbitrary code.
        case dangerous
        /// The file does not exist or cannot be accessed.
        case notFound = "not_found"
        /// The output cannot be created.
        case cannotCreate = "cannot_create"
        /// Reading or writing failed.
        case inputOutput = "input_output"
        /// The caller has cancelled the work.
        case cancelled
    }

    /// The kind of failure.
    public var category: Category
    /// The path of the file or directory that the error concerns.
    public var path: String
    /// A description of the problem.
    public var problem: String
    /// The name of the tensor that the error concerns; nil if there is none.
    public var tensor: String?
    /// The byte offset of the problem in the file; nil if it is not known.
    public var offset: Int?
    /// A description of what was expected.
    public var expected: String?
    /// A description of what was found instead.
    public var found: String?
    /// Advice on what the user can do about the problem.
    public var advice: String?

    /// Creates an error with the given details.
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

    /// Creates an error from a parser's error in the file at `path`.
    ///
    /// The parser's input began at byte `base` of the file.
    package init(_ malformed: MalformedInput, path: String, base: Int = 0) {
        self.init(
            .malformed, path: path, malformed.problem, tensor: malformed.tensor, offset: base + malformed.offset,
            expected: malformed.expected, found: malformed.found)
    }
}

extension CheckpointError: CustomStringConvertible {
    /// A one-line description that is safe to print to a terminal.
    ///
    /// It has the form `PATH: what is wrong (tensor "x", byte 123); what to do`.
    public var description: String {
        var line = path.printable(limit: 4096) + ": " + reason
        var place: [String] = []
        if let tensor { place.append("tensor \"" + tensor.printable(limit: 200) + "\"") }
        if let offset { place.append("byte \(offset)") }
        if !place.isEmpty { line += " (" + place.joined(separator: ", ") + ")" }
        if let advice { line += "; " + advice.printable(limit: 1000) }
        return line
    }

    /// A description of what is wrong, what was expected and what was found.
    ///
    /// It does not include the path, tensor, offset or advice.
    public var reason: String {
        var line = problem.printable(limit: 1000)
        let evidence = [
            expected.map { "expected " + $0.printable(limit: 200) }, found.map { "found " + $0.printable(limit: 200) },
        ].compactMap { $0 }
        if !evidence.isEmpty { line += ": " + evidence.joined(separator: ", ") }
        return line
    }
}

/// A problem that does not prevent a checkpoint from being read but that the user should know about.
public struct CheckpointWarning: Sendable, Equatable {
    /// The path of the file that the warning concerns.
    public var path: String
    /// A description of the problem, in one sentence.
    public var message: String

    /// Creates a warning about the file at `path`.
    public init(path: String, _ message: String) {
        self.path = path
        self.message = message
    }
}
