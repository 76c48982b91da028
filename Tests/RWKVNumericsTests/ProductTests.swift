import CRWKVKernels
import RWKVNumerics
import Testing

/// Tests products with stored matrices of every element type, in both storage orders, with few and many rows.
struct ProductTests {
    @Test(
        "are exact if the sums are", arguments: KernelTable.allCases,
        [RWKV_ELEMENT_F64, RWKV_ELEMENT_F32, RWKV_ELEMENT_F16, RWKV_ELEMENT_BF16].map { Int($0.rawValue) })
    func products(_ table: KernelTable, _ type: Int) throws {
        let element = rwkv_element(rawValue: rwkv_element.RawValue(type))
        func weight(_ output: Int, _ input: Int) -> Double { Double((output * 7 + input * 3) % 15 - 7) / 4 }
        func number(_ row: Int, _ input: Int) -> Double { Double((row * 5 + input * 11) % 13 - 6) / 2 }
        for set in InstructionSet.allCases {
            guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 2),
                let doubles = Kernels<Double>(table, instructionSet: set, threads: 2)
            else { continue }
            for (inputs, outputs, rows) in [
                (1, 1, 1), (16, 5, 3), (37, 300, 4), (64, 17, 9), (40, 259, 70), (16, 5, 1100), (9, 300, 600),
            ] {
                let expected = (0..<rows * outputs).map { place in
                    (0..<inputs).reduce(0.0) {
                        $0 + number(place / outputs, $1) * weight(place % outputs, $1)
                    }
                }
                for isInputMajor in [false, true] {
                    let matrix = stored(element, inputs: inputs, outputs: outputs, isInputMajor: isInputMajor, weight)
                    let x = (0..<rows * inputs).map { number($0 / inputs, $0 % inputs) }
                    let found = kernels.product(Matrix(x.map { Float($0) }, columns: inputs), matrix)
                    #expect(found.array.map(Double.init) == expected)
                    #expect(doubles.product(Matrix(x, columns: inputs), matrix).array == expected)
                    let twice = Matrix(expected, columns: outputs)
                    doubles.addProduct(Matrix(x, columns: inputs), matrix, to: twice)
                    #expect(twice.array == expected.map { 2 * $0 })
                    if !isInputMajor {
                        let row = kernels.gather(matrix, rows: [outputs - 1])
                        #expect(row.array.map(Double.init) == (0..<inputs).map { weight(outputs - 1, $0) })
                    }
                }
            }
        }
    }

    @Test("infinite and NaN halves stay so")
    func halves() throws {
        let kernels = try #require(Kernels<Float>(.strict, threads: 1))
        let matrix = stored(RWKV_ELEMENT_F16, inputs: 4, outputs: 1, isInputMajor: false) { _, input in
            [1, .infinity, -.infinity, .nan][input]
        }
        let row = kernels.gather(matrix, rows: [0]).array
        #expect(row[0] == 1 && row[1] == .infinity && row[2] == -.infinity && row[3].isNaN)
    }

    @Test("strict sums do not depend on how a matrix is stored, nor on the number of rows")
    func strictSums() throws {
        var state: UInt64 = 3
        func noise() -> Double {
            state = state &* 6_364_136_223_846_793_005 &+ 1
            return Double(Float(Double(state >> 11) / Double(1 << 53) - 0.5))
        }
        let weights = (0..<45).map { _ in (0..<133).map { _ in noise() } }
        let kernels = try #require(Kernels<Float>(.strict, threads: 2))
        let byOutput = stored(RWKV_ELEMENT_F32, inputs: 133, outputs: 45, isInputMajor: false) { weights[$0][$1] }
        let byInput = stored(RWKV_ELEMENT_F32, inputs: 133, outputs: 45, isInputMajor: true) { weights[$0][$1] }
        let x = Matrix((0..<11 * 133).map { _ in Float(noise()) }, columns: 133)
        let whole = kernels.product(x, byOutput).array
        #expect(kernels.product(x, byInput).array == whole)
        let rows = (0..<11).flatMap { kernels.product(x.rows($0..<$0 + 1), byOutput).array }
        #expect(rows == whole)
    }

    @Test("any number of threads gives the same bits", arguments: KernelTable.allCases)
    func threads(_ table: KernelTable) throws {
        var noise = Noise(state: 7)
        let numbers = noise.numbers(700 * 90)
        for isInputMajor in [false, true] {
            let matrix = stored(RWKV_ELEMENT_BF16, inputs: 90, outputs: 700, isInputMajor: isInputMajor) {
                numbers[$0 * 90 + $1]
            }
            for rows in [1, 3, 20, 600] {
                let x = Matrix(noise.numbers(rows * 90).map { Float($0) }, columns: 90)
                let found = try [1, 2, 5].map {
                    try #require(Kernels<Float>(table, threads: $0)).product(x, matrix).array
                }
                #expect(found[1] == found[0] && found[2] == found[0], "\(rows) rows")
            }
        }
    }
}
