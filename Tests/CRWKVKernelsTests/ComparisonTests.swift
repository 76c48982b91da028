import CRWKVKernels
import Testing

@Suite struct ComparisonTests {
    private static let instructionSets = [
        RWKV_INSTRUCTION_SET_BASELINE, RWKV_INSTRUCTION_SET_AVX2, RWKV_INSTRUCTION_SET_AVX512,
    ]

    /// Converts random bytes of every element type to doubles, and compares pairs of them.
    ///
    /// The results must have the same bits on every instruction set.
    @Test func agreesToTheBitOnEveryInstructionSet() throws {
        var generator = SystemRandomNumberGenerator()
        let baseline = try #require(rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE)).pointee
        let elements: [(rwkv_element, Int)] = [
            (RWKV_ELEMENT_F64, 8), (RWKV_ELEMENT_F32, 4), (RWKV_ELEMENT_F16, 2), (RWKV_ELEMENT_BF16, 2),
            (RWKV_ELEMENT_I64, 8), (RWKV_ELEMENT_U64, 8), (RWKV_ELEMENT_I32, 4), (RWKV_ELEMENT_U32, 4),
            (RWKV_ELEMENT_I16, 2), (RWKV_ELEMENT_U16, 2),
        ]
        func doubles(_ kernels: rwkv_kernels, _ element: rwkv_element, _ words: [UInt64], _ count: Int) -> [Double] {
            [Double](unsafeUninitializedCapacity: count) { values, initialized in
                words.withUnsafeBytes { kernels.to_doubles(element, $0.baseAddress, count, values.baseAddress) }
                initialized = count
            }
        }
        for instructionSet in Self.instructionSets {
            guard let kernels = rwkv_kernels_for(instructionSet)?.pointee else { continue }
            for (element, size) in elements {
                for count in Array(0..<40) + [70_001] {
                    let words = (0..<count * size / 8 + 1).map { _ in generator.next() as UInt64 }
                    let others = words.map { Bool.random(using: &generator) ? $0 : $0 ^ 1 << 33 }
                    let (a, b) = (doubles(kernels, element, words, count), doubles(baseline, element, words, count))
                    #expect(zip(a, b).allSatisfy { $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN })
                    let c = doubles(baseline, element, others, count)
                    var (x, y) = (rwkv_comparison(), rwkv_comparison())
                    kernels.compare(a, c, count, &x)
                    baseline.compare(b, c, count, &y)
                    #expect(x.differing == y.differing && x.incomparable == y.incomparable)
                    for (p, q) in [
                        (x.largest_difference, y.largest_difference), (x.squared_differences, y.squared_differences),
                        (x.squares_of_a, y.squares_of_a), (x.squares_of_b, y.squares_of_b), (x.products, y.products),
                    ] { #expect(p.bitPattern == q.bitPattern || p.isNaN && q.isNaN) }
                }
            }
        }
    }

    @Test func tellsWhatIsNotANumberFromWhatIsNotTheSame() throws {
        let kernels = try #require(rwkv_kernels_for(rwkv_best_instruction_set())).pointee
        let a = [1, .nan, .nan, .infinity, .infinity, -0.0, 3]
        let b = [1, .nan, 2, .infinity, -.infinity, 0.0, 5]
        var result = rwkv_comparison()
        kernels.compare(a, b, a.count, &result)
        #expect(result.differing == 3 && result.incomparable == 2)
        #expect(result.largest_difference == 2 && result.squared_differences == 4)
        #expect(result.squares_of_a == 10 && result.squares_of_b == 26 && result.products == 16)
    }
}
