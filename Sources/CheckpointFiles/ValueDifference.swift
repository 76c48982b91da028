import CRWKVKernels
import Dispatch
import Synchronization

/// How the values of one tensor differ from those of another of the same shape.
///
/// In double precision whatever the dtypes. Two values that are not a number are the same value; pairs of which one is not finite and
/// that are not the same take no part in the sums.
public struct ValueDifference: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// How many values differ.
    public let differing: Int
    /// How many of these differ by being infinite or not a number on one side.
    public let incomparable: Int
    /// The largest absolute difference; nil where values cannot be compared but by their bytes.
    public let maximum: Double?
    /// The Euclidean norm of the difference, as a part of the first tensor's; nil where that is zero, or the result overflows.
    public let relativeL2: Double?
    /// The cosine of the angle between the two; nil where one of them is zero, or the result overflows.
    public let cosine: Double?
}

extension CheckpointDifference {
    /// Reads the tensors that both checkpoints have in the same shape, and compares their values.
    ///
    /// - Parameters:
    ///   - threads: how many threads to use; the result does not depend on it.
    ///   - progress: told of every buffer; can stop the work.
    /// - Returns: one difference for each of ``common`` that has the same shape on both sides, in that order.
    /// - Throws: ``CheckpointError`` of category `inputOutput`, `malformed` (a wrong checksum) or `cancelled`.
    public func compareValues(
        threads: Int, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> [ValueDifference] {
        let pairs = common.filter { $0.a.shape == $0.b.shape }
        let comparison = ValueComparison(self, pairs, progress)
        return try comparison.run(threads: max(1, threads))
    }
}

/// The work of a comparison, shared between threads.
private final class ValueComparison: Sendable {
    /// How many elements are read at once from each side; a multiple of every count that fills whole bytes.
    private static let chunk = 1 << 15

    private let a: Checkpoint
    private let b: Checkpoint
    private let pairs: [CheckpointDifference.Pair]
    private let progress: WorkProgress
    private let total: Int
    private let next = Atomic<Int>(0)
    private let findings: Mutex<(failure: CheckpointError?, differences: [ValueDifference?])>

    init(_ difference: CheckpointDifference, _ pairs: [CheckpointDifference.Pair], _ progress: WorkProgress) {
        a = difference.a
        b = difference.b
        self.pairs = pairs
        self.progress = progress
        total = pairs.reduce(0) { $0.adding(clamped: $1.a.byteCount).adding(clamped: $1.b.byteCount) }
        findings = Mutex((nil, Array(repeating: nil, count: pairs.count)))
    }

    func run(threads: Int) throws(CheckpointError) -> [ValueDifference] {
        let isSequential = (a.files + b.files).contains { $0.source.isSequential }
        let count = isSequential ? 1 : min(threads, max(1, pairs.count))
        DispatchQueue.concurrentPerform(iterations: count) { _ in work() }
        let (failure, differences) = findings.withLock { $0 }
        if let failure { throw failure }
        return differences.compactMap { $0 }
    }

    private func work() {
        let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee
        while true {
            let number = next.add(1, ordering: .relaxed).oldValue
            guard number < pairs.count else { return }
            do throws(CheckpointError) {
                let difference = try compare(pairs[number], kernels)
                findings.withLock { $0.differences[number] = difference }
            } catch {
                findings.withLock { $0.failure = $0.failure ?? error }
                next.store(pairs.count, ordering: .relaxed)
                return
            }
        }
    }

    private func compare(
        _ pair: CheckpointDifference.Pair, _ kernels: rwkv_kernels
    ) throws(CheckpointError) -> ValueDifference {
        let (first, second) = (TensorValues(pair.a, a), TensorValues(pair.b, b))
        var result = rwkv_comparison()
        var hasValues = true
        var differingBytes = 0
        for start in stride(from: 0, to: pair.a.elementCount, by: Self.chunk) {
            if progress.isCancelled { throw CheckpointError(.cancelled, path: a.path, "stopped as asked") }
            let elements = start..<min(start + Self.chunk, pair.a.elementCount)
            let (p, q) = try (first.bytes(elements), second.bytes(elements))
            progress.advance(by: p.count + q.count, of: total)
            let isSame = pair.a.dtype == pair.b.dtype && p == q
            if let x = first.doubles(p, kernels), let y = second.doubles(q, kernels) {
                // Equal bytes add to the sums all the same.
                let before = result.differing
                kernels.compare(x, y, x.count, &result)
                // Doubles do not tell all integers of 64 bits apart.
                if !isSame, pair.a.dtype == pair.b.dtype, [.i64, .u64].contains(pair.a.dtype) {
                    result.differing = before + UInt64(differingWords(p, q))
                }
            } else {
                hasValues = false
                if !isSame { differingBytes += elements.count }
            }
        }
        func finite(_ value: Double) -> Double? { value.isFinite ? value : nil }
        let norms = result.squares_of_a.squareRoot() * result.squares_of_b.squareRoot()
        return ValueDifference(
            name: pair.a.name, differing: hasValues ? Int(result.differing) : differingBytes,
            incomparable: Int(result.incomparable), maximum: hasValues ? result.largest_difference : nil,
            relativeL2: !hasValues
                ? nil
                : result.differing == 0
                    ? 0 : finite((result.squared_differences / result.squares_of_a).squareRoot()),
            cosine: hasValues ? finite(result.products / norms).map { min(1, max(-1, $0)) } : nil)
    }
}

/// How many words of eight bytes differ.
private func differingWords(_ a: [UInt8], _ b: [UInt8]) -> Int {
    stride(from: 0, to: a.count, by: 8).count { a[$0..<$0 + 8] != b[$0..<$0 + 8] }
}

/// The values of one tensor, in parts.
private struct TensorValues {
    private let tensor: TensorInfo
    private let checkpoint: Checkpoint
    private let element: rwkv_element?
    /// The values that each byte holds, one byte's behind the other's.
    private let table: [Double]?
    private let valuesOfByte: Int

    init(_ tensor: TensorInfo, _ checkpoint: Checkpoint) {
        self.tensor = tensor
        self.checkpoint = checkpoint
        element = tensor.dtype.partElement
        let values =
            tensor.dtype == .qi8
            ? DType.i8.valuesOfBytes : tensor.dtype == .qu8 ? DType.u8.valuesOfBytes : tensor.dtype.valuesOfBytes
        table = values?.flatMap { $0 }
        valuesOfByte = values?[0].count ?? 0
    }

    /// The bytes of a range of elements.
    func bytes(_ elements: Range<Int>) throws(CheckpointError) -> [UInt8] {
        let width = tensor.dtype.bitWidth
        let (start, end) = (elements.lowerBound * width / 8, elements.upperBound * width / 8)
        var bytes = [UInt8](repeating: 0, count: end - start)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try checkpoint.read(tensor, at: start, into: &raw)
        return bytes
    }

    /// The values that bytes stand for, the parts of complex numbers by turns; nil for types without a defined value.
    func doubles(_ bytes: [UInt8], _ kernels: rwkv_kernels) -> [Double]? {
        if let element {
            let count = bytes.count * 8 / tensor.dtype.bitWidth * (tensor.dtype.isComplex ? 2 : 1)
            return [Double](unsafeUninitializedCapacity: count) { values, initialized in
                bytes.withUnsafeBytes { kernels.to_doubles(element, $0.baseAddress, count, values.baseAddress) }
                initialized = count
            }
        }
        guard let table else { return nil }
        var values: [Double] = []
        values.reserveCapacity(bytes.count * valuesOfByte)
        for byte in bytes {
            for part in 0..<valuesOfByte { values.append(table[Int(byte) * valuesOfByte + part]) }
        }
        return values
    }
}

extension DType {
    /// The type of the real numbers that an element consists of.
    fileprivate var partElement: rwkv_element? {
        switch self {
        case .c32: RWKV_ELEMENT_F16
        case .bc32: RWKV_ELEMENT_BF16
        case .c64: RWKV_ELEMENT_F32
        case .c128: RWKV_ELEMENT_F64
        case .qi32: RWKV_ELEMENT_I32
        default: kernelElement
        }
    }
}
