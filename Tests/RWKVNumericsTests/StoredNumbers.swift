import CRWKVKernels
import RWKVNumerics
import Testing

/// Returns a stored matrix of numbers that are rounded to an element type.
///
/// - Parameters:
///   - element: F64, F32, F16 or BF16.
///   - inputs: the number of inputs.
///   - outputs: the number of outputs.
///   - isInputMajor: whether the matrix is stored as [inputs, outputs] rather than [outputs, inputs].
///   - value: returns the number for an output and an input, which are passed in this order.
/// - Returns: the matrix, which owns its bytes.
func stored(
    _ element: rwkv_element, inputs: Int, outputs: Int, isInputMajor: Bool = false, _ value: (Int, Int) -> Double
) -> StoredMatrix {
    let bytes = Bytes(count: inputs * outputs * 8)
    let doubles = (0..<inputs * outputs).map { place in
        isInputMajor ? value(place % outputs, place / outputs) : value(place / inputs, place % inputs)
    }
    let cast = rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE).pointee.cast
    let overflows = doubles.withUnsafeBytes {
        cast?(RWKV_ELEMENT_F64, $0.baseAddress, element, bytes.start, doubles.count, 0)
    }
    #expect(overflows == 0)
    return StoredMatrix(
        bytes.start, element, shape: isInputMajor ? (inputs, outputs) : (outputs, inputs), isInputMajor: isInputMajor,
        owner: bytes)
}

private final class Bytes: @unchecked Sendable {
    let start: UnsafeMutableRawPointer
    init(count: Int) { start = .allocate(byteCount: count, alignment: 64) }
    deinit { start.deallocate() }
}

/// A generator of reproducible pseudo-random numbers.
struct Noise {
    var state: UInt64
    /// Returns the next number, which is between -1 and 1.
    mutating func next() -> Double {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Double(state >> 11) / Double(1 << 53) * 2 - 1
    }
    mutating func numbers(_ count: Int, scale: Double = 1) -> [Double] { (0..<count).map { _ in next() * scale } }
}

/// Returns the largest difference relative to the largest expected number; infinity if the counts differ.
func relativeError(_ found: [Double], _ expected: [Double]) -> Double {
    guard found.count == expected.count, let size = expected.map(\.magnitude).max(),
        let largest = zip(found, expected).map({ ($0 - $1).magnitude }).max()
    else { return .infinity }
    return largest / max(size, 1e-300)
}
