import Bytes
import CheckpointJSON

/// The byte layout of a safetensors file, identical to the layout that the safetensors library would choose.
struct SafetensorsByteLayout: FileByteLayout {
    let ranges: [Range<Int>]
    let needsChecksums = false
    private let header: [UInt8]

    /// The maximum header length that readers accept, in bytes.
    private static let headerLimit = 100_000_000

    var byteCount: Int { ranges.last?.upperBound ?? header.count }

    /// Returns the indices of tensors in the order of the safetensors library: sorted by dtype, and then by name.
    static func sorted(_ numbers: [Int], of tensors: [OutputTensor]) -> [Int] {
        numbers.sorted { a, b in
            let (p, q) = (rank[tensors[a].dtype] ?? 0, rank[tensors[b].dtype] ?? 0)
            return p == q ? tensors[a].name.utf8.lexicographicallyPrecedes(tensors[b].name.utf8) : p > q
        }
    }

    private static let rank = Dictionary(
        uniqueKeysWithValues: ([
            .bool, .f4E2M1, .f6E2M3, .f6E3M2, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .i16, .u16,
            .f16, .bf16, .i32, .u32, .f32, .c64, .f64, .i64, .u64,
        ] as [DType]).enumerated().map { ($1, $0) })

    /// Creates the layout of a file with the tensors in the given order.
    ///
    /// - Throws: `CheckpointError` of category `unsupported` if the header is too long.
    init(_ tensors: [OutputTensor], metadata: [ByteString: String], path: String) throws(CheckpointError) {
        var text = Array("{".utf8)
        if !metadata.isEmpty {
            let pairs = metadata.sorted { $0.key < $1.key }
                .map { "\($0.key.text.quotedJSON):\($0.value.quotedJSON)" }
            text += "\"__metadata__\":{\(pairs.joined(separator: ","))}\(tensors.isEmpty ? "" : ",")".utf8
        }
        var offsets: [Range<Int>] = []
        for (place, tensor) in tensors.enumerated() {
            let start = offsets.last?.upperBound ?? 0
            offsets.append(start..<start + tensor.byteCount)
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            text +=
                "\(place > 0 ? "," : "")\(tensor.name.quotedJSON):{\"dtype\":\"\(tensor.dtype.rawValue)\",\"shape\":[\(shape)],\"data_offsets\":[\(start),\(start + tensor.byteCount)]}"
                .utf8
        }
        text.append(UInt8(ascii: "}"))
        while text.count % 8 != 0 { text.append(UInt8(ascii: " ")) }
        guard text.count <= Self.headerLimit else {
            throw CheckpointError(
                .unsupported, path: path, "the header would be longer than readers accept",
                expected: "at most \(Self.headerLimit) bytes", found: "\(text.count)")
        }
        var header: [UInt8] = []
        header.append(littleEndian: UInt64(text.count))
        header += text
        self.header = header
        ranges = offsets.map { header.count + $0.lowerBound..<header.count + $0.upperBound }
    }

    func bytes(before place: Int, checksums: [UInt32]) -> [UInt8] { place == 0 ? header : [] }
}
