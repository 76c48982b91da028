public import Bytes
public import CheckpointJSON

extension JSONValue {
    /// Creates a value by reading a small JSON document, such as a config.json or a plan.
    ///
    /// - Throws: `CheckpointError`: `notFound`, `unsupported` (not a regular file), `inputOutput`, or `malformed`
    ///   with the byte offset.
    public init(contentsOf path: String) throws(CheckpointError) {
        let bytes = try document(path)
        do throws(MalformedInput) { try self.init(document: bytes) } catch {
            throw CheckpointError(error, path: path)
        }
    }
}

/// Computes the SHA-256 hash of a small document and returns it as 64 hexadecimal digits.
///
/// - Throws: `CheckpointError`: `notFound`, `unsupported`, `inputOutput`, or `malformed` if the document is too long.
public func sha256(ofDocument path: String) throws(CheckpointError) -> String { sha256(of: try document(path)) }

/// Returns whether a file begins like a JSON object or array and is short enough to read as a `JSONValue`.
///
/// - Throws: `CheckpointError`: `notFound`, `unsupported` or `inputOutput`.
package func isSmallDocument(_ path: String) throws(CheckpointError) -> Bool {
    guard PathKind(path) != .directory else { return false }
    let source = try checkpointSource(path: path)
    guard source.count <= JSONValue.maximumBytes else { return false }
    let head = try source.bytes(0..<min(source.count, FileFormat.headSize))
    guard [nil, .shardIndex].contains(FileFormat(head: head, limits: .standard)) else { return false }
    // JSON does not allow a byte order mark. Accept one here, so that the parser reports it.
    let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
    let text = head.starts(with: mark) ? head.dropFirst(mark.count) : head[...]
    let first = text.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
    return first == UInt8(ascii: "{") || first == UInt8(ascii: "[")
}

/// Reads a small document and returns its bytes.
///
/// - Throws: `CheckpointError`: `notFound`, `unsupported`, `inputOutput`, or `malformed` if the document is too long.
package func document(_ path: String) throws(CheckpointError) -> [UInt8] {
    let source = try FileSource(path: path)
    guard source.count <= JSONValue.maximumBytes else {
        throw CheckpointError(
            .malformed, path: path, "the document is too long", expected: "at most \(JSONValue.maximumBytes) bytes",
            found: "\(source.count)")
    }
    return try source.bytes(0..<source.count)
}
