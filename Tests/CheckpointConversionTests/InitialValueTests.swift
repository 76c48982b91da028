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

    /// The time mixing of students' own classes, as they create it.
    private struct Original: Decodable {
        struct Tensor: Decodable {
            let shape: [Int]
            /// The values of a vector.
            let values: [Double]?
            /// The standard deviation of a matrix that is not copied from the teacher.
            let deviation: Double?
        }
        /// The family of the teacher.
        let teacher: String
        let heads, kv_heads, head_size, width, layers, layer: Int
        let variants: [String: [String: Tensor]]
    }

    @Test(arguments: [("hxa07", 3), ("radlads", 2), ("arwkv", 2)])
    func newTensorsAreThoseOfTheOriginalClasses(directory: String, count: Int) throws {
        let original = try Repository.json("\(directory)/initial-values.json", as: Original.self)
        let kernels = try #require(rwkv_kernels_for(rwkv_best_instruction_set())).pointee
        #expect(original.variants.count == count)
        for (variant, expected) in original.variants {
            let teacher = try withTemporaryDirectory { directory in
                let file = directory.appending(path: "config.json")
                let config = """
                    {"model_type": "\(original.teacher)", "num_hidden_layers": \(original.layers), "hidden_size": \(original.width),
                    "num_attention_heads": \(original.heads), "num_key_value_heads": \(original.kv_heads), "vocab_size": 8,
                    "head_dim": \(original.head_size), "intermediate_size": 8}
                    """
                try config.write(to: file, atomically: false, encoding: .utf8)
                return try RecognisedModel(ModelConfiguration(path: file.path)).description
            }
            let target = try #require(ArchitectureRegistry.target(named: variant))
            let student = try #require(teacher.student(target, attention: [], attentionUsesRoPE: false))
            let layout = student.architecture.layouts[0]
            let inner = directory == "arwkv" ? "time_mixer." : ""
            let prefix = "model.layers.\(original.layer).self_attn.\(inner)"
            var found: Set<String> = []
            for tensor in student.tensors where tensor.layer == original.layer {
                let name = try #require(layout.name(of: tensor.role, layer: original.layer))
                guard name.hasPrefix(prefix) else { continue }
                found.insert(String(name.dropFirst(prefix.count)))
                let own = try #require(expected[String(name.dropFirst(prefix.count))], "\(variant) \(name)")
                let shape = try #require(tensor.shape)
                #expect(layout.stored(shape, of: tensor.role) == own.shape, "\(variant) \(name)")
                guard let initialiser = target.conversion?.initialisers[tensor.role] else {
                    #expect(own.values == nil && own.deviation == nil, "\(variant) \(name)")
                    continue
                }
                let values = values(
                    initialiser, shape, layer: original.layer, layers: original.layers, head: original.head_size)
                if let numbers = own.values {
                    // The class computes in fp32.
                    for (channel, number) in numbers.enumerated() {
                        #expect(abs(values.value(at: channel, in: nil) - number) < 1e-6, "\(variant) \(name)")
                    }
                } else {
                    let vectors = values.vectors(kernels) {}
                    let numbers = (0..<shape.reduce(1, *)).map { values.value(at: $0, in: vectors) }
                    let mean = numbers.reduce(0, +) / Double(numbers.count)
                    let square = numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(numbers.count)
                    let deviation = try #require(own.deviation)
                    // The deviations of uniform numbers are random, too.
                    let tolerance = vectors == nil ? 0.02 : 1e-3
                    #expect(abs(square.squareRoot() - deviation) <= tolerance * deviation, "\(variant) \(name)")
                    #expect(abs(mean) <= 0.02 * deviation, "\(variant) \(name)")
                }
            }
            #expect(found == Set(expected.keys), "\(variant)")
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
