import CheckpointJSON

/// What went wrong with a file, with the evidence for it.
public struct CheckpointError: Error, Sendable, Equatable {
    /// What kind of failure it is; a caller decides by this what to do next.
    public enum Category: String, Sendable, CaseIterable {
        /// The bytes break the rules of their format, or the files contradict each other.
        case malformed
        /// The format or a part of it is known but not read.
        case unsupported
        /// Numbers are not finite, or what is computed with them is not.
        case notFinite = "not_finite"
        /// Loading the file with Python would run code that is not a model's.
        case dangerous
        /// There is no such file, or it may not be read.
        case notFound = "not_found"
        /// The output cannot be created.
        case cannotCreate = "cannot_create"
        /// Reading or writing failed.
        case inputOutput = "input_output"
        /// The caller asked to stop.
        case cancelled
    }

    /// What kind of failure it is.
    public var category: Category
    /// The file or directory concerned.
    public var path: String
    /// What is wrong.
    public var problem: String
    /// The tensor concerned, where there is one.
    public var tensor: String?
    /// Where in the file, in bytes from its start.
    public var offset: Int?
    /// What should stand there.
    public var expected: String?
    /// What stands there.
    public var found: String?
    /// What the user can do about it.
    public var advice: String?

    /// An error with its evidence.
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

    /// A parser's finding in the file at `path`, whose parsed part begins at byte `base`.
    init(_ malformed: MalformedInput, path: String, base: Int = 0) {
        self.init(
            .malformed, path: path, malformed.problem, tensor: malformed.tensor, offset: base + malformed.offset,
            expected: malformed.expected, found: malformed.found)
    }
}

extension CheckpointError: CustomStringConvertible {
    /// One line, fit for a terminal: `PATH: what is wrong (tensor "x", byte 123); what to do`.
    public var description: String {
        var line = path.printable(limit: 4096) + ": " + reason
        var place: [String] = []
        if let tensor { place.append("tensor \"" + tensor.printable(limit: 200) + "\"") }
        if let offset { place.append("byte \(offset)") }
        if !place.isEmpty { line += " (" + place.joined(separator: ", ") + ")" }
        if let advice { line += "; " + advice.printable(limit: 1000) }
        return line
    }

    /// What is wrong, with what should be there and what is, without the place.
    public var reason: String {
        var line = problem.printable(limit: 1000)
        let evidence = [
            expected.map { "expected " + $0.printable(limit: 200) }, found.map { "found " + $0.printable(limit: 200) },
        ].compactMap { $0 }
        if !evidence.isEmpty { line += ": " + evidence.joined(separator: ", ") }
        return line
    }
}

/// Something about a checkpoint that its user should know, though it can be read.
public struct CheckpointWarning: Sendable, Equatable {
    /// The file concerned.
    public var path: String
    /// What it is about, in a sentence.
    public var message: String

    /// A warning about the file at `path`.
    public init(path: String, _ message: String) {
        self.path = path
        self.message = message
    }
}
