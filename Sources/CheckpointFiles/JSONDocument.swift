public import CheckpointJSON

extension JSONValue {
    /// Reads a small document: a config.json, a plan.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed` with the byte.
    public init(contentsOf path: String) throws(CheckpointError) {
        let source = try FileSource(path: path)
        guard source.count <= Self.maximumBytes else {
            throw CheckpointError(
                .malformed, path: path, "the document is too long", expected: "\(Self.maximumBytes) bytes at the most",
                found: "\(source.count)")
        }
        let bytes = try source.bytes(0..<source.count)
        do throws(MalformedInput) { try self.init(document: bytes) } catch {
            throw CheckpointError(error, path: path)
        }
    }
}
