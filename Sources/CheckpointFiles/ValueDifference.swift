public import Bytes
import CRWKVKernels
import Dispatch
import Synchronization

/// The differences between the values of two tensors of the same shape.
///
/// Values are compared in double precision for all dtypes. Two NaNs count as equal. Pairs in which a value is infinite
/// or NaN do not affect the maximum, the norm or the cosine similarity.
public struct ValueDifference: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// The number of values that differ.
    ///
    /// The real and imaginary parts of complex values are counted separately. Six-bit dtypes have no defined packing,
    /// so for them this is the number of bytes that differ.
    public let differing: Int
    /// The number of differing pairs in which at least one of the two values is infinite or NaN.
    public let incomparable: Int
    /// The largest absolute difference; nil if only bytes could be compared.
    public let maximum: Double?
    /// The Euclidean norm of the difference divided by the norm of the first tensor.
    ///
    /// It is nil if only bytes could be compared, if the norm of the first tensor is zero, or if squares overflow or
    /// underflow.
    public let relativeL2: Double?
    /// The cosine similarity of the two tensors.
    ///
    /// It is nil if only bytes could be compared, if one of the tensors is zero, or if squares overflow or underflow.
    public let cosine: Double?
}

extension CheckpointDifference {
    /// Compares the values of tensors that have the same name and shape in both checkpoints.
    ///
    /// - Parameters:
    ///   - threads: the number of threads, which does not affect the result.
    ///   - progress: receives the progress after every buffer, and can cancel the work.
    /// - Returns: the number of pairs that were compared, and the differences of those that differ, in the order of
    ///   ``common``. A pair in ``common`` is compared if its shapes are the same, and its dtypes are the same or have
    ///   defined values.
    /// - Throws: `CheckpointError` of category `inputOutput`, `malformed` (a wrong checksum) or `cancelled`.
    public func compareValues(
        threads: Int, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> (comparedCount: Int, changed: [ValueDifference]) {
        let comparison = ValueComparison(self, progress)
        return (comparison.count, try comparison.run(threads: max(1, threads)))
    }
}

/// The state of a comparison, shared between threads.
private final class ValueComparison: Sendable {
    /// The number of elements to compare at once.
    ///
    /// It is a multiple of eight, so that the elements fill whole bytes for every dtype.
    private static let chunk = 1 << 15
    /// The approximate number of bytes to read at once: the first for contiguous tensors, the second for tensors whose
    /// elements must be gathered from a storage.
    private static let (pieceSize, gatheredPieceSize) = (1 << 18, 1 << 24)

    private let a: Checkpoint
    private let b: Checkpoint
    /// The positions of the tensors to compare, in the order in which they are read.
    ///
    /// `number` gives the order of the results.
    private let pairs: [(number: UInt32, a: UInt32, b: UInt32)]
    private let progress: WorkProgress
    private let total: Int
    private let next = Atomic<Int>(0)
    private let findings = Mutex<(failure: CheckpointError?, changed: [(number: UInt32, difference: ValueDifference)])>(
        (nil, []))

    init(_ difference: CheckpointDifference, _ progress: WorkProgress) {
        a = difference.a
        b = difference.b
        self.progress = progress
        var total = 0
        var pairs: [(number: UInt32, a: UInt32, b: UInt32)] = []
        for (positions, pair) in zip(difference.commonPositions, difference.common) {
            guard pair.a.shape == pair.b.shape,
                pair.a.dtype == pair.b.dtype || (pair.a.dtype.hasValues && pair.b.dtype.hasValues)
            else { continue }
            pairs.append((UInt32(pairs.count), positions.a, positions.b))
            total = total.adding(clamped: pair.a.byteCount).adding(clamped: pair.b.byteCount)
        }
        // If only `b` must be read sequentially, follow its order.
        if b.isSequential, !a.isSequential { pairs.sort { $0.b < $1.b } }
        self.pairs = pairs
        self.total = total
    }

    var count: Int { pairs.count }

    func run(threads: Int) throws(CheckpointError) -> [ValueDifference] {
        let count = a.isSequential || b.isSequential ? 1 : min(threads, max(1, pairs.count))
        DispatchQueue.concurrentPerform(iterations: count) { _ in work() }
        let (failure, changed) = findings.withLock { $0 }
        if let failure { throw failure }
        for file in a.files + b.files { try file.source.finish() }
        return changed.sorted { $0.number < $1.number }.map(\.difference)
    }

    private func work() {
        let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee
        while true {
            let number = next.add(1, ordering: .relaxed).oldValue
            guard number < pairs.count else { return }
            do throws(CheckpointError) {
                let pair = pairs[number]
                let difference = try compare(a.tensors[Int(pair.a)], b.tensors[Int(pair.b)], kernels)
                guard difference.differing > 0 else { continue }
                findings.withLock { $0.changed.append((pair.number, difference)) }
            } catch {
                findings.withLock { $0.failure = $0.failure ?? error }
                next.store(pairs.count, ordering: .relaxed)
                return
            }
        }
    }

    private func compare(
        _ tensor: TensorInfo, _ other: TensorInfo, _ kernels: rwkv_kernels
    ) throws(CheckpointError) -> ValueDifference {
        let isComplex = tensor.dtype.isComplex || other.dtype.isComplex
        let (first, second) = (TensorValues(tensor, a, isComplex), TensorValues(other, b, isComplex))
        let isSameType = tensor.dtype == other.dtype
        var result = rwkv_comparison()
        var differingBytes = 0
        let size = tensor.isContiguous && other.isContiguous ? Self.pieceSize : Self.gatheredPieceSize
        let piece = max(size * 8 / max(tensor.dtype.bitWidth, other.dtype.bitWidth) / Self.chunk, 1) * Self.chunk
        for start in stride(from: 0, to: tensor.elementCount, by: piece) {
            if progress.isCancelled { throw CheckpointError(.cancelled, path: a.path, "cancelled") }
            let elements = start..<min(start + piece, tensor.elementCount)
            let (p, q) = try (first.bytes(elements), second.bytes(elements))
            progress.advance(by: p.count + q.count, of: total)
            guard first.hasValues, second.hasValues else {
                differingBytes += zip(p, q).count { $0 != $1 }
                continue
            }
            for part in stride(from: 0, to: elements.count, by: Self.chunk) {
                let part = part..<min(part + Self.chunk, elements.count)
                let (x, y) = (first.part(part, of: p), second.part(part, of: q))
                let before = result.differing
                let (values, others) = (first.doubles(x, kernels), second.doubles(y, kernels))
                precondition(values.count == others.count, "pairs of values")
                // Compare values even if their bytes are equal, because they contribute to the sums.
                kernels.compare(values, others, values.count, &result)
                // Doubles cannot represent all 64-bit integers, so count the integers that differ.
                if isSameType, [.i64, .u64].contains(tensor.dtype) {
                    result.differing = before + UInt64(differingWords(x, y))
                }
            }
        }
        guard first.hasValues, second.hasValues else {
            return ValueDifference(
                name: tensor.name, differing: differingBytes, incomparable: 0, maximum: nil, relativeL2: nil,
                cosine: nil)
        }
        // Squares of numbers below 1e-154 underflow.
        func isSound(_ squares: Double) -> Bool { squares.isFinite && squares > 1e-290 }
        let (inA, inB) = (result.squares_of_a, result.squares_of_b)
        let ratio = (result.squared_differences / inA).squareRoot()
        let cosine = result.products / (inA.squareRoot() * inB.squareRoot())
        return ValueDifference(
            name: tensor.name, differing: Int(result.differing), incomparable: Int(result.incomparable),
            maximum: result.largest_difference, relativeL2: isSound(inA) && ratio.isFinite ? ratio : nil,
            cosine: isSound(inA) && isSound(inB) && cosine.isFinite ? min(1, max(-1, cosine)) : nil)
    }
}

/// Returns the number of 8-byte words that differ.
private func differingWords(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>) -> Int {
    guard a != b else { return 0 }
    return zip(stride(from: a.startIndex, to: a.endIndex, by: 8), stride(from: b.startIndex, to: b.endIndex, by: 8))
        .count { a[$0..<$0 + 8] != b[$1..<$1 + 8] }
}

/// A reader for the values of one tensor.
private struct TensorValues {
    private let tensor: TensorInfo
    private let checkpoint: Checkpoint
    private let element: rwkv_element?
    /// The values that each of the 256 possible bytes encodes, concatenated.
    private let table: [Double]?
    private let valuesOfByte: Int
    /// Whether to add imaginary parts of zero, because the other tensor is complex and this one is not.
    private let addsImaginaryParts: Bool

    init(_ tensor: TensorInfo, _ checkpoint: Checkpoint, _ isComplex: Bool) {
        self.tensor = tensor
        self.checkpoint = checkpoint
        addsImaginaryParts = isComplex && !tensor.dtype.isComplex
        element = tensor.dtype.partElement
        let values = tensor.dtype.plainValuesOfBytes
        table = values?.flatMap { $0 }
        valuesOfByte = values?[0].count ?? 0
    }

    var hasValues: Bool { element != nil || table != nil }

    /// Reads the bytes of a range of elements.
    func bytes(_ elements: Range<Int>) throws(CheckpointError) -> [UInt8] {
        let width = tensor.dtype.bitWidth
        let (start, end) = (elements.lowerBound * width / 8, elements.upperBound * width / 8)
        var bytes = [UInt8](repeating: 0, count: end - start)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try checkpoint.read(tensor, at: start, into: &raw)
        return bytes
    }

    /// Returns the part of `bytes` that contains the given range of elements.
    func part(_ elements: Range<Int>, of bytes: [UInt8]) -> ArraySlice<UInt8> {
        let width = tensor.dtype.bitWidth
        return bytes[elements.lowerBound * width / 8..<elements.upperBound * width / 8]
    }

    /// Returns the values that `bytes` encodes.
    ///
    /// The real and imaginary parts of complex values alternate.
    func doubles(_ bytes: ArraySlice<UInt8>, _ kernels: rwkv_kernels) -> [Double] {
        var values: [Double] = []
        if let element {
            let count = bytes.count * 8 / tensor.dtype.bitWidth * (tensor.dtype.isComplex ? 2 : 1)
            values = [Double](unsafeUninitializedCapacity: count) { values, initialized in
                bytes.withUnsafeBytes { kernels.to_doubles(element, $0.baseAddress, count, values.baseAddress) }
                initialized = count
            }
        } else if let table {
            values.reserveCapacity(bytes.count * valuesOfByte)
            for byte in bytes {
                for part in 0..<valuesOfByte { values.append(table[Int(byte) * valuesOfByte + part]) }
            }
        }
        return addsImaginaryParts ? values.flatMap { [$0, 0] } : values
    }
}

extension DType {
    /// The kernels' constant for an element or, if the dtype is complex, for its real and imaginary parts; nil if there
    /// is none.
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

    /// The values that each byte encodes, without applying the scale of quantised types; nil unless the type has four
    /// or eight bits.
    fileprivate var plainValuesOfBytes: [[Double]]? {
        switch self {
        case .qi8: DType.i8.valuesOfBytes
        case .qu8: DType.u8.valuesOfBytes
        default: valuesOfBytes
        }
    }

    /// Whether the values that the elements encode are defined.
    fileprivate var hasValues: Bool { partElement != nil || plainValuesOfBytes != nil }
}

extension Checkpoint {
    fileprivate var isSequential: Bool { files.contains { $0.source.isSequential } }
}
