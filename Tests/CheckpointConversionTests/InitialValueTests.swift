import CRWKVKernels
import CheckpointFiles
import Foundation
import LayerPlanning
import ModelFamilies
import TestSupport
import Testing

@testable import CheckpointConversion

@Suite struct InitialValueTests {
    private struct Case: Decodable {
        let width: Int
        let head: Int
        let layers: Int
        let layer: Int
        let decay_ramp: [Double]
        let decay_ramp_with_heads: [Double]
        let iclr_ramp: [Double]
    }

    /// Returns the elements of an orthogonal matrix in row-major order.
    private func matrix(_ values: InitialValues, _ kernels: rwkv_kernels) -> [Double]? {
        let vectors = values.vectors(kernels) {}
        return vectors.map { vectors in (0..<vectors.count).map { values.value(at: $0, in: vectors) } }
    }

    private func values(
        _ initialiser: Initialiser, _ shape: [Int], layer: Int = 0, layers: Int = 1, head: Int = 1, seed: Int = 0,
        name: String = "name"
    ) -> InitialValues {
        InitialValues(
            initialiser: initialiser, place: TensorPlace(role: .decayUp, layer: layer), shape: shape,
            layerCount: layers,
            headSize: head, seed: seed, name: name)
    }

    @Test func rampsAreThoseOfTheTrainers() throws {
        for test in try Repository.json("conversions/initialisers.json", as: [Case].self) {
            for (initialiser, expected) in [
                (Initialiser.decayRamp, test.decay_ramp), (.decayRampWithHeads, test.decay_ramp_with_heads),
                (.iclrRamp, test.iclr_ramp),
            ] {
                let found = values(initialiser, [test.width], layer: test.layer, layers: test.layers, head: test.head)
                for (channel, expected) in expected.enumerated() {
                    #expect(abs(found.value(at: channel, in: nil) - expected) < 1e-14, "\(initialiser.name) \(channel)")
                }
            }
        }
    }

    @Test func matricesAreOrthogonalWithTheirGain() throws {
        let kernels = try #require(rwkv_kernels_for(rwkv_best_instruction_set())).pointee
        for shape in [[4, 16], [16, 4], [8, 8], [1, 5], [64, 200]] {
            let matrix = try #require(self.matrix(values(.orthogonal(gain: 0.1), shape), kernels))
            let (rows, columns) = (shape[0], shape[1])
            let gain = rows > columns ? 0.1 * (Double(rows) / Double(columns)).squareRoot() : 0.1
            // Check that the vectors are orthogonal to each other and have the expected length.
            let isWide = rows <= columns
            func at(_ vector: Int, _ index: Int) -> Double {
                isWide ? matrix[vector * columns + index] : matrix[index * columns + vector]
            }
            for a in 0..<min(rows, columns) {
                for b in 0..<min(rows, columns) {
                    let product = (0..<max(rows, columns)).reduce(0) { $0 + at(a, $1) * at(b, $1) }
                    #expect(abs(product - (a == b ? gain * gain : 0)) < 1e-12)
                }
            }
        }
        // The values are spread over all directions, so no element is far larger than the others.
        let wide = try #require(matrix(values(.orthogonal(gain: 1), [50, 1000]), kernels))
        let mean = wide.reduce(0, +) / 50000
        let square = wide.reduce(0) { $0 + $1 * $1 } / 50000
        #expect(abs(mean) < 0.001 && abs(square - 0.001) < 1e-9 && wide.allSatisfy { abs($0) < 0.2 })
    }

    /// The values depend only on the seed and the name, and are bit-identical to the values recorded here.
    @Test func dependOnSeedAndNameAlone() throws {
        let kernels = try #require(rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE)).pointee
        let best = try #require(rwkv_kernels_for(rwkv_best_instruction_set())).pointee
        let values = values(.orthogonal(gain: 0.1), [3, 40], seed: 5, name: "model.layers.1.self_attn.w2")
        let found = try #require(matrix(values, kernels))
        #expect(matrix(values, best) == found)
        #expect(found.prefix(3) == [-0.014078860309884903, -0.02567941733704602, -0.019309327327934778])
        let others = [
            self.values(.orthogonal(gain: 0.1), [3, 40], seed: 6, name: "model.layers.1.self_attn.w2"),
            self.values(.orthogonal(gain: 0.1), [3, 40], seed: 5, name: "model.layers.2.self_attn.w2"),
        ]
        #expect(others.allSatisfy { matrix($0, kernels) != found })
    }
}
