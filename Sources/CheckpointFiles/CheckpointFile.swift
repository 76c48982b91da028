import CheckpointJSON

/// One file of a checkpoint, its headers read.
public final class CheckpointFile: Sendable {
    /// The bytes of the file.
    public let source: any ByteSource
    let contents: any FileContents

    /// The path, as given or as the index gives it, below the directory as given.
    public var path: String { source.path }
    /// The size of the file in bytes.
    public var byteCount: Int { source.count }
    /// How many tensors it holds.
    public var tensorCount: Int { contents.tensorCount }

    /// Reads what a file says about its tensors, and checks all of it.
    ///
    /// - Throws: ``CheckpointError``: `malformed` with tensor and offset, `unsupported` when it is another format, `inputOutput`.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        self.source = source
        let format = try FileFormat.recognize(source, limits: limits)
        switch format {
        case .safetensors: contents = try SafetensorsFile(source, limits: limits)
        case .pyTorchZip: contents = try PyTorchFile(zip: source, limits: limits)
        case .pyTorchLegacy: contents = try PyTorchFile(legacy: source, limits: limits)
        default:
            throw CheckpointError(
                .unsupported, path: source.path, "this is a \(format.rawValue), which is not read",
                advice: format.advice)
        }
    }
}

extension FileFormat {
    /// Recognises the file by its first bytes.
    ///
    /// - Throws: ``CheckpointError`` when it is empty, fits nothing known, or cannot be read.
    static func recognize(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) -> FileFormat {
        guard source.count > 0 else { throw CheckpointError(.malformed, path: source.path, "the file is empty") }
        let head = try source.bytes(0..<min(source.count, headSize))
        guard let format = FileFormat(head: head, limits: limits) else {
            let start = head.prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
            throw CheckpointError(
                .malformed, path: source.path,
                source.count < 8 ? "the file is cut short" : "the file is of no format that this tool knows",
                offset: 0, expected: "a checkpoint", found: "bytes \(start)")
        }
        return format
    }
}
