import CRWKVKernels
import Glibc
import Testing

@Suite struct LinearTests {
    private static let kernels = [
        RWKV_INSTRUCTION_SET_BASELINE, RWKV_INSTRUCTION_SET_AVX2, RWKV_INSTRUCTION_SET_AVX512,
    ].compactMap { rwkv_kernels_for($0)?.pointee }

    @Test func makesRowsOrthogonalToTheSameBits() {
        for (count, length) in [(1, 1), (3, 3), (5, 17), (32, 100), (64, 64)] {
            let start = (0..<count * length).map { _ in Double.random(in: -1...1) }
            var results: [[Double]] = []
            for kernels in Self.kernels {
                var rows = start
                // The second call continues after the rows of the first call.
                kernels.orthonormalise(&rows, 0, count / 2, length)
                kernels.orthonormalise(&rows, count / 2, count, length)
                for a in 0..<count {
                    for b in 0...a {
                        let product = (0..<length).reduce(0) { $0 + rows[a * length + $1] * rows[b * length + $1] }
                        #expect(abs(product - (a == b ? 1 : 0)) < 1e-10)
                    }
                    // The dot product of the result and the original row is positive.
                    let own = (0..<length).reduce(0) { $0 + rows[a * length + $1] * start[a * length + $1] }
                    #expect(own > 0)
                }
                results.append(rows)
            }
            #expect(results.allSatisfy { $0 == results[0] })
        }
    }

    @Test func addsWithoutFusing() {
        let x = (0..<1003).map { _ in Float.random(in: -1...1) }
        let y = x.map { _ in Float.random(in: -1...1) }
        for kernels in Self.kernels {
            var sum = y
            kernels.add_scaled(0.3, x, &sum, x.count)
            #expect(sum == zip(x, y).map { pair in pair.1 + (0.3 * pair.0) })
        }
    }

    @Test func exponentialAndLogarithmAgreeWithTheLibrary() {
        for _ in 0..<200_000 {
            let x = Double.random(in: -745...709)
            #expect(abs(rwkv_exp(x) - exp(x)) <= 2 * max(exp(x).ulp, .leastNonzeroMagnitude), "\(x)")
            let y = exp(Double.random(in: -700...700))
            #expect(abs(rwkv_log(y) - log(y)) <= 2 * log(y).ulp, "\(y)")
            let z = Double.random(in: 0.5...2)
            #expect(abs(rwkv_log(z) - log(z)) <= max(2 * log(z).ulp, 0x1p-54), "\(z)")
        }
        #expect(rwkv_exp(0) == 1 && rwkv_exp(710) == .infinity && rwkv_exp(-746) == 0 && rwkv_exp(.nan).isNaN)
        #expect(rwkv_log(1) == 0 && rwkv_log(0) == -.infinity && rwkv_log(-1).isNaN && rwkv_log(.infinity) == .infinity)
        #expect(rwkv_log(Double.leastNonzeroMagnitude) == log(Double.leastNonzeroMagnitude))
    }
}
