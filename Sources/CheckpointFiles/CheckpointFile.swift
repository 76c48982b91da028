import CheckpointJSON

/// One file of a checkpoint, its header read.
public final class CheckpointFile: Sendable {
    /// The bytes of the file.
    public let source: any ByteSource
    let header: SafetensorsHeader
    /// Where the tensors' data begins.
    let dataStart: Int

    /// The path, as given or as the index gives it, below the directory as given.
    public var path: String { source.path }
    /// The size of the file in bytes.
    public var byteCount: Int { source.count }
    /// How many tensors it holds.
    public var tensorCount: Int { header.entries.count }

    /// Reads the header of a safetensors file and checks all of it.
    ///
    /// - Throws: ``CheckpointError``: `malformed` with tensor and offset, `unsupported` when it is another format, `inputOutput`.
    convenience init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        let format = try FileFormat.recognize(source, limits: limits)
        guard format == .safetensors else {
            throw CheckpointError(
                .unsupported, path: source.path, "this is a \(format.rawValue), which is not read",
                advice: format.advice)
        }
        try self.init(safetensors: source, limits: limits)
    }

    /// Reads the header of a file that is known to be safetensors.
    init(safetensors source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        func malformed(_ problem: String, expected: String? = nil, found: String? = nil) -> CheckpointError {
            CheckpointError(.malformed, path: source.path, problem, offset: 0, expected: expected, found: found)
        }
        guard source.count >= 8 else {
            throw malformed("the file is cut short", expected: "8 bytes or more", found: "\(source.count)")
        }
        let lengthBytes = try source.bytes(0..<8)
        let length = lengthBytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(limits.headerBytes) else {
            let swapped = length.byteSwapped
            let isSwapped = swapped <= UInt64(source.count - 8)
            throw malformed(
                "the header is too long" + (isSwapped ? " (its length seems to be written big-endian)" : ""),
                expected: "\(limits.headerBytes) bytes at the most", found: "\(length)")
        }
        guard length <= UInt64(source.count - 8) else {
            throw malformed(
                "the file is cut short within its header", expected: "a header of \(length) bytes",
                found: "\(source.count - 8)")
        }
        self.source = source
        self.dataStart = 8 + Int(length)
        let text = try source.bytes(8..<8 + Int(length))
        do throws(MalformedInput) {
            // Taken, not copied, though names are decoded in it.
            let taken = consume text
            self.header = try SafetensorsHeader(taken, dataCount: source.count - dataStart, limits: limits)
        } catch {
            throw CheckpointError(error, path: source.path, base: 8)
        }
    }

    /// The tensor at `position` by place in this file, which is number `file` of its checkpoint.
    func tensor(at position: Int, file: Int) -> TensorInfo {
        tensor(header.entries[Int(header.order[position])], file: file)
    }

    /// The tensor with this name, compared by bytes.
    func tensor(named name: ArraySlice<UInt8>, file: Int) -> TensorInfo? {
        header.index(of: name).map { tensor(header.entries[$0], file: file) }
    }

    private func tensor(_ entry: SafetensorsHeader.Entry, file: Int) -> TensorInfo {
        TensorInfo(
            name: header.name(of: entry), dtype: entry.dtype, shape: header.shape(of: entry), file: file,
            byteRange: dataStart + entry.begin..<dataStart + entry.end)
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
