import CRWKVKernels
import Testing

@Suite struct StatisticsTests {
    private static let instructionSets = [
        RWKV_INSTRUCTION_SET_BASELINE, RWKV_INSTRUCTION_SET_AVX2, RWKV_INSTRUCTION_SET_AVX512,
    ]
    private static let elements: [(rwkv_element, Int)] = [
        (RWKV_ELEMENT_F64, 8), (RWKV_ELEMENT_F32, 4), (RWKV_ELEMENT_F16, 2), (RWKV_ELEMENT_BF16, 2),
        (RWKV_ELEMENT_I64, 8),
        (RWKV_ELEMENT_U64, 8), (RWKV_ELEMENT_I32, 4), (RWKV_ELEMENT_U32, 4), (RWKV_ELEMENT_I16, 2),
        (RWKV_ELEMENT_U16, 2),
    ]

    private func statistics(
        _ kernels: rwkv_kernels, _ element: rwkv_element, _ bytes: some Collection<UInt8>, _ size: Int
    ) -> rwkv_statistics {
        var result = rwkv_statistics()
        Array(bytes).withUnsafeBytes { kernels.statistics(element, $0.baseAddress, $0.count / size, &result) }
        return result
    }

    /// Computes statistics of random bytes, for every tail length.
    ///
    /// Random bytes contain every class of number, in every lane.
    @Test func agreesToTheBitOnEveryInstructionSet() throws {
        var generator = SystemRandomNumberGenerator()
        let baseline = try #require(rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE)).pointee
        for instructionSet in Self.instructionSets {
            guard let kernels = rwkv_kernels_for(instructionSet)?.pointee else { continue }
            for (element, size) in Self.elements {
                for count in Array(0..<40) + [600_000] {
                    let bytes = (0..<count * size / 8 + 1).flatMap { _ in
                        withUnsafeBytes(of: generator.next() as UInt64) { Array($0) }
                    }.prefix(count * size)
                    let a = statistics(kernels, element, bytes, size)
                    let b = statistics(baseline, element, bytes, size)
                    #expect(
                        a.finite == b.finite && a.zeros == b.zeros && a.nans == b.nans && a.infinities == b.infinities)
                    #expect(
                        a.minimum.bitPattern == b.minimum.bitPattern && a.maximum.bitPattern == b.maximum.bitPattern)
                    #expect(a.sum.bitPattern == b.sum.bitPattern || a.sum.isNaN && b.sum.isNaN)
                    #expect(
                        a.sum_of_squares.bitPattern == b.sum_of_squares.bitPattern
                            || a.sum_of_squares.isNaN && b.sum_of_squares.isNaN)
                }
            }
        }
    }

    /// Compares each of the 65,536 f16 values with the standard library's conversion.
    @Test func widensEveryHalfExactly() throws {
        for instructionSet in Self.instructionSets {
            guard let kernels = rwkv_kernels_for(instructionSet)?.pointee else { continue }
            for bits in UInt16.min...UInt16.max {
                var half = bits
                var result = rwkv_statistics()
                kernels.statistics(RWKV_ELEMENT_F16, &half, 1, &result)
                let value = Float16(bitPattern: bits)
                if value.isFinite {
                    #expect(result.finite == 1 && result.minimum == Double(value) && result.maximum == Double(value))
                    #expect((result.zeros == 1) == value.isZero)
                } else {
                    #expect(
                        result.finite == 0 && (result.nans == 1) == value.isNaN && result.infinities + result.nans == 1)
                }
            }
        }
    }

    @Test func countsMoreZerosThanALaneCanHold() throws {
        let kernels = try #require(rwkv_kernels_for(rwkv_best_instruction_set())).pointee
        let count = 16 * 70_000 + 3
        let result = statistics(kernels, RWKV_ELEMENT_BF16, [UInt8](repeating: 0, count: count * 2), 2)
        #expect(result.zeros == UInt64(count) && result.finite == UInt64(count))
    }

    @Test func keepsASmallDeviationBesideALargeMean() throws {
        let kernels = try #require(rwkv_kernels_for(rwkv_best_instruction_set())).pointee
        let values: [Float] = (0..<1000).map { 8_388_608 + Float($0 % 2) }
        let result = statistics(kernels, RWKV_ELEMENT_F32, values.flatMap { withUnsafeBytes(of: $0) { Array($0) } }, 4)
        let variance = (result.sum_of_squares - result.sum * result.sum / 1000) / 1000
        #expect(variance == 0.25 && result.shift == 8_388_608)
    }

    @Test func countsBytes() throws {
        let kernels = try #require(rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE)).pointee
        for count in [0, 1, 7, 8, 9, 1000] {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7) }
            var counts = [UInt64](repeating: 1, count: 256)
            kernels.count_bytes(bytes, count, &counts)
            #expect(counts == (0..<256).map { value in 1 + UInt64(bytes.count { $0 == UInt8(value) }) })
        }
    }
}
