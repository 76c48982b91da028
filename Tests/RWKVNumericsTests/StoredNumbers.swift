import CRWKVKernels
import RWKVNumerics
import Testing

/// Makes a matrix of numbers, each rounded to the type in which a file stores them.
///
/// - Parameters:
///   - element: F64, F32, F16 or BF16.
///   - inputs: the number of inputs.
///   - outputs: the number of outputs.
///   - isInputMajor: whether the numbers of an input are contiguous, not those of an output.
///   - value: gives the number of an output and an input.
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

/// A generator of reproducible numbers.
struct Noise {
    var state: UInt64
    /// A number between -1 and 1.
    mutating func next() -> Double {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Double(state >> 11) / Double(1 << 53) * 2 - 1
    }
    mutating func numbers(_ count: Int, scale: Double = 1) -> [Double] { (0..<count).map { _ in next() * scale } }
}
