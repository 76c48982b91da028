public import CheckpointJSON

extension JSONValue {
    /// Reads a small document: a config.json, a plan.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed` with the byte.
    public init(contentsOf path: String) throws(CheckpointError) {
        let bytes = try document(path)
        do throws(MalformedInput) { try self.init(document: bytes) } catch {
            throw CheckpointError(error, path: path)
        }
    }
}

/// The SHA-256 of a small document, as hexadecimal digits.
///
/// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed` where it is too long.
public func sha256(ofDocument path: String) throws(CheckpointError) -> String { sha256(of: try document(path)) }

/// The bytes of a small document.
///
/// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed` where it is too long.
package func document(_ path: String) throws(CheckpointError) -> [UInt8] {
    let source = try FileSource(path: path)
    guard source.count <= JSONValue.maximumBytes else {
        throw CheckpointError(
            .malformed, path: path, "the document is too long", expected: "\(JSONValue.maximumBytes) bytes at the most",
            found: "\(source.count)")
    }
    return try source.bytes(0..<source.count)
}
