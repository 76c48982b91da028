public import CheckpointFiles
public import CheckpointJSON

extension JSONWriter {
    /// Writes the member `warnings`.
    package mutating func write(_ warnings: [CheckpointWarning]) {
        key("warnings")
        beginArray()
        for warning in warnings {
            beginObject(onOneLine: true)
            key("path")
            value(warning.path)
            key("message")
            value(warning.message)
            end()
        }
        end()
    }
}

extension CheckpointError {
    /// Writes the error as one document, described by schemas/error.schema.json.
    ///
    /// - Throws: any error that the output throws.
    public func writeJSON(exitStatus: Int, to output: consuming ByteOutput) throws {
        var json = JSONWriter(output)
        json.beginObject(onOneLine: true)
        json.key("schema")
        json.value("rwkv-ckpt/error/1")
        json.key("category")
        json.value(category.rawValue)
        json.key("exit_status")
        json.value(exitStatus)
        json.key("path")
        json.value(path)
        json.key("problem")
        json.value(problem)
        for (name, value) in [
            ("tensor" as StaticString, tensor), ("expected", expected), ("found", found), ("advice", advice),
        ] {
            guard let value else { continue }
            json.key(name)
            json.value(value)
        }
        if let offset {
            json.key("offset")
            json.value(offset)
        }
        json.end()
        try json.finish()
    }
}
