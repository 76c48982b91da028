public import Bytes
import CheckpointFiles
package import CheckpointJSON

extension JSONWriter {
    /// Writes a member that lists warnings.
    package mutating func member(_ name: StaticString, of warnings: [CheckpointWarning]) {
        array(name, of: warnings) { json, warning in
            json.member("path", warning.path)
            json.member("message", warning.message)
        }
    }
}

extension CheckpointError {
    /// Writes the error as a JSON document that conforms to schemas/error.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(exitStatus: Int, to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output, onOneLine: true) { json in
            json.member("schema", "rwkv-ckpt/error/1")
            json.member("category", category.rawValue)
            json.member("exit_status", exitStatus)
            json.member("path", path)
            json.member("problem", problem)
            if let tensor { json.member("tensor", tensor) }
            if let expected { json.member("expected", expected) }
            if let found { json.member("found", found) }
            if let advice { json.member("advice", advice) }
            if let offset { json.member("offset", offset) }
        }
    }
}
