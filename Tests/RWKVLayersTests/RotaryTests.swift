import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVNumerics
import TestSupport
import Testing

@testable import RWKVLayers

struct RotaryTests {
    @Test("a part of each head is rotated as by transformers' Phi-3")
    func partial() throws {
        let recorded = try Checkpoint.open(Repository.fixture("logits/rotary-partial.safetensors"))
        let shape = try #require(recorded.tensor(named: "x")).shape
        let x: [Double] = try recorded.numbers("x")
        let expected: [Double] = try recorded.numbers("rotated")
        let configuration = try withTemporaryDirectory { directory in
            let file = directory.appending(path: "config.json")
            try #"{"rope_theta": 10000.0, "partial_rotary_factor": 0.75}"#.write(
                to: file, atomically: false, encoding: .utf8)
            return try ModelConfiguration(path: file.path)
        }
        let rotary = try #require(try RotaryEmbedding(configuration, of: Architecture.llama.body))
        let frequencies = RotaryFrequencies(rotary, headSize: shape[2], length: shape[0])
        #expect(frequencies.inverse.count == 6 && frequencies.factor == 1)
        let kernels = try #require(Kernels<Double>(.strict, threads: 1))
        let rotated = Matrix(x, columns: shape[1] * shape[2])
        Rotation<Double>(frequencies, positions: 0..<shape[0]).apply(to: rotated, size: shape[2], kernels)
        // The results differ slightly because transformers computes the powers of theta in fp32.
        #expect(normalisedError(rotated.array, expected) < 1e-13)
    }
}
