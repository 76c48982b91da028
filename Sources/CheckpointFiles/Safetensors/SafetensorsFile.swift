import Bytes
import CheckpointJSON

/// A checkpoint file in the safetensors format, whose header has been read.
struct SafetensorsFile: FileContents {
    let header: SafetensorsHeader
    /// The offset of the tensor data in the file, in bytes.
    let dataStart: Int
    let dataByteCount: Int
    let format = FileFormat.safetensors
    let warnings: [String]

    /// Creates a safetensors file by reading and validating its header.
    ///
    /// - Throws: `CheckpointError` of category `malformed` with an offset and, if the error concerns a tensor, the
    ///   tensor's name, or any error that `source` throws.
    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        func malformed(_ problem: String, expected: String? = nil, found: String? = nil) -> CheckpointError {
            CheckpointError(.malformed, path: source.path, problem, offset: 0, expected: expected, found: found)
        }
        guard source.count >= 8 else {
            throw malformed("the file is truncated", expected: "at least 8 bytes", found: "\(source.count)")
        }
        let length = try source.bytes(0..<8).bits(at: 0, count: 8)
        guard length <= UInt64(limits.headerBytes) else {
            let swapped = length.byteSwapped
            let isSwapped = swapped <= UInt64(source.count - 8)
            throw malformed(
                "the header is too long" + (isSwapped ? " (its length seems to be written big-endian)" : ""),
                expected: "at most \(limits.headerBytes) bytes", found: "\(length)")
        }
        guard length <= UInt64(source.count - 8) else {
            throw malformed(
                "the file is truncated within its header", expected: "a header of \(length) bytes",
                found: "\(source.count - 8)")
        }
        let dataStart = 8 + Int(length)
        let text = try source.bytes(8..<dataStart)
        do throws(MalformedInput) {
            // Consume the text, so that names are decoded in place without copying the text.
            let taken = consume text
            header = try SafetensorsHeader(taken, dataCount: source.count - dataStart, limits: limits)
        } catch {
            throw CheckpointError(error, path: source.path, base: 8)
        }
        self.dataStart = dataStart
        dataByteCount = source.count - dataStart
        let misaligned = header.entries.count { entry in
            (dataStart + entry.begin) % max(1, entry.dtype.bitWidth / 8) != 0 && entry.begin < entry.end
        }
        var warnings = header.warnings
        if misaligned > 0 {
            warnings.append(
                "\(misaligned) tensor\(misaligned == 1 ? " is" : "s are") not aligned to the size of the elements; loaders that memory-map the file may refuse it"
            )
        }
        self.warnings = warnings
    }

    var headerByteCount: Int { header.text.count }
    var tensorCount: Int { header.entries.count }

    var metadata: [ByteString: String] {
        header.metadata.reduce(into: [:]) { metadata, pair in
            let key = ByteString(String(decoding: header.text[pair.key], as: UTF8.self))
            metadata[key] = String(decoding: pair.value.decoded(from: header.text.span), as: UTF8.self)
        }
    }

    func tensor(at position: Int, file: Int) -> TensorInfo {
        let entry = header.entries[position]
        return TensorInfo(
            name: header.name(of: entry), dtype: entry.dtype, shape: header.shape(of: entry), file: file,
            byteRange: dataStart + entry.begin..<dataStart + entry.end)
    }

    func size(at position: Int) -> (dtype: DType, byteCount: Int) {
        let entry = header.entries[position]
        return (entry.dtype, entry.end - entry.begin)
    }

    func name(at position: Int) -> ArraySlice<UInt8> { header.text[header.entries[position].nameRange] }

    func position(of name: ArraySlice<UInt8>) -> Int? { header.position(of: name) }
}
