import CheckpointJSON

/// One file of a checkpoint, its headers read.
public final class CheckpointFile: Sendable {
    /// The bytes of the file, unpacked if it is compressed.
    public let source: any ByteSource
    /// Whether the file is compressed with zstd.
    public let isCompressed: Bool
    let contents: any FileContents

    /// The path, as given or as the index gives it, below the directory as given.
    public var path: String { source.path }
    /// The size of the file in bytes, as it is stored.
    public let byteCount: Int
    /// How many tensors it holds.
    public var tensorCount: Int { contents.tensorCount }

    /// Reads what a file says about its tensors, and checks all of it.
    ///
    /// - Throws: ``CheckpointError``: `malformed` with tensor and offset, `unsupported` when it is another format, `inputOutput`.
    init(
        _ file: any ByteSource, limits: ReadLimits, temporaryDirectory: String
    ) throws(CheckpointError) {
        var source = file
        var format = try FileFormat.recognize(source, limits: limits)
        isCompressed = format == .zstd
        byteCount = file.count
        if isCompressed {
            source = try ZstdSource(file, limits: limits)
            format = try FileFormat.recognize(source, limits: limits)
            // A safetensors file is read from front to back; torch's are read everywhere.
            if [.pyTorchZip, .pyTorchLegacy].contains(format), source.isSequential {
                source = try FileSource(unpacking: source, inDirectory: temporaryDirectory)
            }
        }
        switch format {
        case .safetensors: contents = try SafetensorsFile(source, limits: limits)
        case .pyTorchZip: contents = try PyTorchFile(zip: source, limits: limits)
        case .pyTorchLegacy: contents = try PyTorchFile(legacy: source, limits: limits)
        default:
            throw CheckpointError(
                .unsupported, path: source.path,
                "this is \(format.withArticle)\(isCompressed ? " in a zstd file" : ""), which is not read",
                advice: format.advice)
        }
        self.source = source
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
