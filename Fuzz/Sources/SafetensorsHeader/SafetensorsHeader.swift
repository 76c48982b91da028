@testable import Bytes
import CheckpointJSON
@testable import CheckpointFiles
import Fuzzing

/// A fuzz target for the parser of safetensors headers.
///
/// An input that begins with `{` is the text of a header, and any other input is a complete file. Inputs without a
/// length field are useful because a mutation of the text rarely preserves the length. As a consequence, files whose
/// length field begins with the byte 123 (`{`) are not tested.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            let bytes = Array(copying: bytes)
            if bytes.first == UInt8(ascii: "{") {
                test(HeaderSource(bytes))
            } else {
                test(MemorySource(bytes, path: "input"))
            }
        }
    }

    private static func test(_ source: some ByteSource) {
        do throws(CheckpointError) {
            check(try SafetensorsFile(source, limits: .standard), byteCount: source.count)
        } catch {
            requirePrintable(error.description)
            if let offset = error.offset {
                require((0...source.count).contains(offset), "offset \(offset) of \(source.count)")
            }
        }
    }

    private static func check(_ file: SafetensorsFile, byteCount fileSize: Int) {
        var end = file.dataStart
        for position in 0..<file.tensorCount {
            let tensor = file.tensor(at: position, file: 3)
            requirePrintable(tensor.name.printable())
            require(tensor.byteRange.lowerBound == end, "\(tensor) does not begin at \(end)")
            let byteCount = try? tensor.dtype.byteCount(of: tensor.shape)
            require(byteCount == tensor.byteRange.count, "\(tensor) has \(byteCount as Any) bytes")
            // Traps if the product overflows. The parser rejects such a shape, even if a dimension is zero.
            let elements = tensor.shape.reduce(1, *)
            require(elements == tensor.elementCount, "\(tensor) has \(tensor.elementCount) elements")
            require(elements * tensor.dtype.bitWidth == byteCount.map { $0 * 8 }, "\(tensor) has \(elements) elements")
            end = tensor.byteRange.upperBound

            let found = file.position(of: Array(tensor.name.utf8)[...])
            require(found == position, "\(tensor) at \(position) is found at \(found as Any)")
        }
        require(end == fileSize, "the tensors end at \(end) of \(fileSize)")

        let text = file.header.text
        for (key, value) in file.header.metadata {
            _ = requireUTF8(text[key])
            _ = requireUTF8(value.decoded(from: text.span))
        }
    }
}

/// A file with the given header, a matching length field, and as many bytes of data as the tensors need.
///
/// The data is counted but not allocated, so the header can declare tensors of any size that a file can have.
private struct HeaderSource: ByteSource {
    let path = "input"
    let count: Int
    private let start: MemorySource

    init(_ text: [UInt8]) {
        let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> ($0 * 8)) }
        start = MemorySource(length + text, path: path)
        var parser = SafetensorsHeaderParser(
            dataCount: .max - start.count, limits: .standard, headerBytes: text.count)
        try? parser.parse(text.span)
        count = start.count + (parser.entries.map(\.end).max() ?? 0)
    }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        try start.read(into: &buffer, at: offset)
    }
}
