public import Bytes

/// A file of a checkpoint, whose headers have been read and validated.
public final class CheckpointFile: Sendable {
    /// The contents of the file, decompressed if the file is compressed.
    public let source: any ByteSource
    /// Whether the file is compressed with zstd.
    public let isCompressed: Bool
    let contents: any FileContents

    /// The path of the file.
    ///
    /// For a shard, this is the directory of the index followed by the file name in the index.
    public var path: String { source.path }
    /// The size of the file on disk, in bytes.
    public let byteCount: Int
    /// The number of tensors in the file.
    public var tensorCount: Int { contents.tensorCount }

    /// Creates a checkpoint file by reading and validating its headers.
    ///
    /// - Throws: `CheckpointError`: `malformed` if the file is invalid or its format is not recognised; `unsupported`
    ///   if the format is recognised but cannot be read; or `inputOutput`.
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
            // Safetensors files can be read from front to back, but PyTorch files need random access.
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
                "this is \(format.withArticle)\(isCompressed ? " in a zstd file" : ""), which is not supported",
                advice: format.advice)
        }
        self.source = source
    }
}

extension FileFormat {
    /// Recognises the format of a file from its first bytes.
    ///
    /// - Throws: `CheckpointError`: `malformed` if the file is empty or its format is not recognised, or
    ///   `inputOutput`.
    static func recognize(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) -> FileFormat {
        guard source.count > 0 else { throw CheckpointError(.malformed, path: source.path, "the file is empty") }
        let head = try source.bytes(0..<min(source.count, headSize))
        guard let format = FileFormat(head: head, limits: limits) else {
            let start = head.prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
            throw CheckpointError(
                .malformed, path: source.path,
                source.count < 8 ? "the file is truncated" : "the file format is not recognised",
                offset: 0, expected: "a checkpoint", found: "bytes \(start)")
        }
        return format
    }
}
