import Bytes
import CRWKVKernels
import CheckpointFiles

/// The merge of an adapter into one weight W [out, in], which is computed row by row in fp32.
public struct WeightMerge: Sendable {
    /// The formula for the merged weight.
    ///
    /// A is [r, in], B is [out, r], and M contains one length for each row or column.
    enum Formula: Sendable {
        /// LoRA: W + s B A.
        case lora(scale: Float)
        /// peft's DoRA: each row of W + s B A is scaled to its length in M.
        case rowScaled(scale: Float)
        /// RWKVInside's DoRA: each column of W + s B A is scaled to its length in M.
        case columnScaled(scale: Float)
        /// peft's Bone and MiSS: W[o, c] + bone[c mod r, o]. In the mini form, bone has fewer than `out` columns, which
        /// repeat.
        case blocksAdded
        /// peft's "bat" form: W + W bone[a] + bone[a] for each block of r rows and r columns, where a is the index of
        /// the block's row of blocks. The bone tensor is [out / r, r, r].
        case blocksByRow
        /// RWKVInside's Bone: the formula of the "bat" form, except that a is the index of the block's column of
        /// blocks. The bone tensor is [in / r, r, r].
        case blocksByColumn
    }

    let formula: Formula
    /// A, or the Bone blocks.
    let first: Conversion.InputTensor
    let second: Conversion.InputTensor?
    let magnitude: Conversion.InputTensor?

    /// The adapter tensors that the merge uses.
    public var inputs: [Conversion.InputTensor] { [first, second, magnitude].compactMap { $0 } }

    /// The name of the merge in reports and manifests.
    public var name: String {
        switch formula {
        case .lora: "LoRA"
        case .rowScaled, .columnScaled: "DoRA"
        case .blocksAdded, .blocksByRow, .blocksByColumn: "Bone"
        }
    }

    /// The maximum number of columns of a weight that can be merged.
    static let columnLimit = 1 << 20
    /// The maximum number of elements of A, M or the Bone blocks.
    ///
    /// All of their values are in memory at once.
    static let elementLimit = 1 << 24
}

/// The state of a merge, including the adapter values that are in memory.
struct WeightMerger {
    private let formula: WeightMerge.Formula
    private let rank: Int
    private let weight: TensorInfo
    private let columns: Int
    private let adapter: Checkpoint
    private let kernels: rwkv_kernels
    /// A, or the Bone blocks.
    private let first: [Float]
    private let up: TensorInfo?
    private var magnitude: [Float] = []
    /// The squared length of each column of W + s B A.
    private var columnSquares: [Double] = []
    private var change: [Float]

    init(
        _ merge: WeightMerge, of adapter: Checkpoint, into weight: TensorInfo, _ kernels: rwkv_kernels
    ) throws(CheckpointError) {
        formula = merge.formula
        self.adapter = adapter
        self.weight = weight
        columns = weight.shape[1]
        self.kernels = kernels
        let tensors = adapter.tensors
        let info = tensors[merge.first.position]
        // The shape is [r, in], [r, out] or [blocks, r, r].
        rank = info.shape[info.shape.count == 3 ? 1 : 0]
        first = try adapter.floats(info, kernels)
        up = merge.second.map { tensors[$0.position] }
        if let position = merge.magnitude?.position { magnitude = try adapter.floats(tensors[position], kernels) }
        change = Array(repeating: 0, count: columns)
        if case .columnScaled = formula { columnSquares = Array(repeating: 0, count: columns) }
    }

    /// Whether all rows must be measured before the first one is merged.
    var mustMeasure: Bool { !columnSquares.isEmpty }

    /// Adds s B A to consecutive rows of W, starting at index `row`, and adds the squares of the resulting values to
    /// the squared lengths of the columns.
    mutating func measure(_ rows: UnsafeMutableBufferPointer<Float>, from row: Int) throws(CheckpointError) {
        try addProducts(to: rows, from: row)
        for start in stride(from: 0, to: rows.count, by: columns) {
            for column in 0..<columns {
                let value = Double(rows[start + column])
                columnSquares[column] += value * value
            }
        }
    }

    /// Merges the adapter into consecutive rows of W, starting at index `row`.
    mutating func merge(into rows: UnsafeMutableBufferPointer<Float>, from row: Int) throws(CheckpointError) {
        switch formula {
        case .lora: try addProducts(to: rows, from: row)
        case .rowScaled:
            try addProducts(to: rows, from: row)
            for (number, start) in stride(from: 0, to: rows.count, by: columns).enumerated() {
                let square = rows[start..<start + columns].reduce(0.0) { $0 + Double($1) * Double($1) }
                let length = Float(square.squareRoot())
                guard length != 0 else { throw zeroRow(row + number) }
                let factor = magnitude[row + number] / length
                for column in start..<start + columns { rows[column] *= factor }
            }
        case .columnScaled:
            try addProducts(to: rows, from: row)
            let factors = zip(magnitude, columnSquares).map { $0 / (Float($1.squareRoot()) + 1e-6) }
            for start in stride(from: 0, to: rows.count, by: columns) {
                for column in 0..<columns { rows[start + column] *= factors[column] }
            }
        case .blocksAdded:
            let width = first.count / rank
            for (number, start) in stride(from: 0, to: rows.count, by: columns).enumerated() {
                for column in 0..<columns {
                    rows[start + column] += first[column % rank * width + (row + number) % width]
                }
            }
        case .blocksByRow:
            for (number, start) in stride(from: 0, to: rows.count, by: columns).enumerated() {
                multiply(rows.baseAddress.map { $0 + start }, row: row + number) { [rank] _ in (row + number) / rank }
            }
        case .blocksByColumn:
            for (number, start) in stride(from: 0, to: rows.count, by: columns).enumerated() {
                multiply(rows.baseAddress.map { $0 + start }, row: row + number) { $0 }
            }
        }
    }

    /// Returns the error for a row of zeros, for which peft would divide by zero and produce NaN.
    private func zeroRow(_ row: Int) -> CheckpointError {
        CheckpointError(
            .notFinite, path: adapter.path, "DoRA cannot scale a row of W + s B A that is all zeros",
            tensor: weight.name, found: "row \(row)")
    }

    /// Adds s B A to consecutive rows of W, starting at index `row`.
    private mutating func addProducts(
        to rows: UnsafeMutableBufferPointer<Float>, from row: Int
    ) throws(CheckpointError) {
        let scale: Float
        switch formula {
        case .lora(let own), .rowScaled(let own), .columnScaled(let own): scale = own
        default: return
        }
        guard let up, let base = rows.baseAddress else { return }
        let count = rows.count / columns
        let first = first
        let factors = try adapter.floats(up, kernels, elements: row * rank..<(row + count) * rank)
        first.withUnsafeBufferPointer { [columns, rank, kernels] first in
            guard let down = first.baseAddress else { return }
            for number in 0..<count {
                for column in 0..<columns { change[column] = 0 }
                for index in 0..<rank {
                    kernels.add_scaled(factors[number * rank + index], down + index * columns, &change, columns)
                }
                kernels.add_scaled(scale, change, base + number * columns, columns)
            }
        }
    }

    /// Adds two terms to each block of a row: the block's product with a Bone block, and row `number` mod r of that
    /// Bone block.
    private mutating func multiply(_ row: UnsafeMutablePointer<Float>?, row number: Int, bone: (Int) -> Int) {
        guard let row else { return }
        let (first, rank, columns, kernels) = (first, rank, columns, kernels)
        first.withUnsafeBufferPointer { first in
            guard let bones = first.baseAddress else { return }
            for block in 0..<columns / rank {
                let own = bones + bone(block) * rank * rank
                let values = row + block * rank
                change.withUnsafeMutableBufferPointer { change in
                    guard let sum = change.baseAddress else { return }
                    sum.update(from: own + number % rank * rank, count: rank)
                    for index in 0..<rank { kernels.add_scaled(values[index], own + index * rank, sum, rank) }
                    kernels.add_scaled(1, sum, values, rank)
                }
            }
        }
    }
}

extension Checkpoint {
    /// Returns the fp32 values of a floating-point tensor, or of a range of its elements in row-major order.
    func floats(
        _ tensor: TensorInfo, _ kernels: rwkv_kernels, elements: Range<Int>? = nil
    ) throws(CheckpointError) -> [Float] {
        let elements = elements ?? 0..<tensor.elementCount
        let size = tensor.dtype.bitWidth / 8
        guard let element = tensor.dtype.floatElement else { return [] }
        let step = 1 << 16
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: step * size, alignment: 64)
        defer { bytes.deallocate() }
        var floats = [Float](repeating: 0, count: elements.count)
        for start in stride(from: 0, to: elements.count, by: step) {
            let count = min(step, elements.count - start)
            var span = MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(rebasing: bytes[..<(count * size)]))
            try read(tensor, at: (elements.lowerBound + start) * size, into: &span)
            let overflows = floats.withUnsafeMutableBufferPointer { floats in
                kernels.cast(
                    element, bytes.baseAddress, RWKV_ELEMENT_F32, floats.baseAddress.map { $0 + start }, count, 0)
            }
            guard overflows == 0 else {
                throw CheckpointError(
                    .unsupported, path: path, "a value is out of range for F32", tensor: tensor.name)
            }
        }
        return floats
    }
}

extension DType {
    /// The kernels' element type for F64, F32, F16 and BF16; nil for other types, which are not cast.
    var floatElement: rwkv_element? {
        [.f64, .f32, .f16, .bf16].contains(self) ? kernelElement : nil
    }
}
