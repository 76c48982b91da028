import Bytes
import CheckpointFiles
/// A NumPy `.npy` file, which contains one array, in the format that numpy.lib.format defines.
struct NumpyArray {
    private let source: any ByteSource
    private let header: String
    private let dataStart: Int

    init(_ source: any ByteSource) throws(CheckpointError) {
        self.source = source
        let head = try source.bytes(0..<min(source.count, 12))
        guard head.count == 12, head.starts(with: [0x93] + Array("NUMPY".utf8)), 1...3 ~= head[6] else {
            throw CheckpointError(.malformed, path: source.path, "the file is not a NumPy array", offset: 0)
        }
        // Version 1 stores the header length in two bytes, later versions in four.
        let lengthSize = head[6] == 1 ? 2 : 4
        let length = head.integer(at: 8, count: lengthSize)
        dataStart = 8 + lengthSize + length
        guard length <= 1 << 16, dataStart <= source.count else {
            throw CheckpointError(
                .malformed, path: source.path, "the header is longer than the file or than 65536 bytes", offset: 8)
        }
        header = String(decoding: try source.bytes(8 + lengthSize..<dataStart), as: UTF8.self)
    }

    func sequences() throws(CheckpointError) -> [[Int]] {
        let kinds: [String: (size: Int, isSigned: Bool)] = [
            "|u1": (1, false), "<u2": (2, false), "<u4": (4, false), "<i4": (4, true), "<u8": (8, false),
            "<i8": (8, true),
        ]
        // The header is a Python dictionary: {'descr': '<i8', 'fortran_order': False, 'shape': (2, 40), }
        let description = value(of: "descr", from: "'", to: "'")
        let shape = value(of: "shape", from: "(", to: ")")?.split(separator: ",").map {
            Int($0.drop { $0 == " " }) ?? -1
        }
        guard let kind = description.flatMap({ kinds[$0] }), let shape, (1...2).contains(shape.count),
            shape.allSatisfy({ 0...TokenSequences.limit ~= $0 }),
            shape.count == 1 || header.contains("'fortran_order': False")
        else {
            throw CheckpointError(
                .malformed, path: source.path,
                "tokens must be little-endian integers of shape [T] or [B, T], in C order",
                found: header.trimmed)
        }
        let count = shape.reduce(1, *)
        guard source.count - dataStart == count * kind.size else {
            throw CheckpointError(
                .malformed, path: source.path, "the size of the data does not match the header", offset: dataStart,
                expected: "\(count * kind.size) bytes", found: "\(source.count - dataStart)")
        }
        try TokenSequences.check(count: count, path: source.path)
        let bytes = try source.bytes(dataStart..<source.count)
        return rows(of: bytes, size: kind.size, isSigned: kind.isSigned, shape: shape)
    }

    private func value(of key: String, from open: Character, to close: Character) -> String? {
        guard let found = header.firstRange(of: "'\(key)':") else { return nil }
        let rest = header[found.upperBound...]
        guard let start = rest.firstIndex(of: open) else { return nil }
        let inner = rest[rest.index(after: start)...]
        return inner.firstIndex(of: close).map { String(inner[..<$0]) }
    }
}

extension String {
    fileprivate var trimmed: String { String(unicodeScalars.prefix { $0 != "\n" }.prefix(200)) }
}
