import Bytes
import CheckpointFiles
/// A Megatron-LM token file, in the format that indexed_dataset.py defines.
///
/// The `.bin` file contains the tokens, and the `.idx` file contains the length and position of each sequence.
struct MegatronTokens {
    private let data: any ByteSource
    private let index: any ByteSource

    /// Creates a reader for the tokens in `data`, whose sequences are listed in `index`.
    init(_ data: any ByteSource, index: any ByteSource) {
        self.data = data
        self.index = index
    }

    func sequences() throws(CheckpointError) -> [[Int]] {
        let headSize = 34
        let head = try index.bytes(0..<min(index.count, headSize))
        guard head.count == headSize, head.starts(with: Array("MMIDIDX\0\0".utf8)), head.integer(at: 9, count: 8) == 1
        else {
            throw CheckpointError(
                .malformed, path: index.path, "the file is not a Megatron index of version 1", offset: 0)
        }
        let sizes = [1: 1, 4: 4, 5: 8, 8: 2]
        guard let size = sizes[Int(head[17])] else {
            throw CheckpointError(
                .malformed, path: index.path, "unsupported token dtype code", offset: 17,
                expected: "1 (u8), 4 (i32), 5 (i64) or 8 (u16)", found: "\(head[17])")
        }
        let count = head.integer(at: 18, count: 8)
        guard 0...TokenSequences.limit ~= count, headSize + 12 * count <= index.count else {
            throw CheckpointError(
                .malformed, path: index.path,
                "the number of sequences is more than the index can hold or the limit allows",
                offset: 18,
                found: "\(count)")
        }
        let lengths = try index.bytes(headSize..<headSize + 4 * count)
        let places = try index.bytes(headSize + 4 * count..<headSize + 12 * count)
        var sequences: [[Int]] = []
        var total = 0
        for number in 0..<count {
            let length = lengths.integer(at: 4 * number, count: 4)
            let start = places.integer(at: 8 * number, count: 8)
            guard 0...data.count ~= start, length <= (data.count - start) / size else {
                throw CheckpointError(
                    .malformed, path: index.path, "sequence \(number) is not within \(data.path)",
                    offset: headSize + 4 * count + 8 * number, found: "\(length) tokens at byte \(start)")
            }
            total += length
            try TokenSequences.check(count: total, path: data.path)
            if length > 0 {
                sequences.append(
                    try TokenSequences.numbers(data, size: size, in: start..<start + length * size))
            }
        }
        return sequences
    }
}
