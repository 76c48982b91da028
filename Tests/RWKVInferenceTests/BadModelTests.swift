import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

/// Models that cannot be run say why, in one line.
struct BadModelTests {
    private func load(_ directory: URL) throws -> Model<Float> {
        let checkpoint = try Checkpoint.open(directory.path)
        let configuration = try ModelConfiguration(beside: checkpoint)
        return try Model(
            checkpoint,
            try ModelRecognition.recognize(checkpoint, configuration: configuration)
                .described(path: checkpoint.path, hasConfiguration: true))
    }

    private func failure(_ model: EditableModel, tokens: [Int] = [1, 2, 3]) throws -> CheckpointError? {
        try withTemporaryDirectory { directory in
            try model.write(to: directory)
            do {
                let model = try load(directory)
                let kernels = try #require(Kernels<Float>(.fast, threads: 1))
                var state = model.start(length: 3)
                _ = try model.logits(try model.hidden(tokens, &state, kernels), kernels)
                return nil
            } catch let error as CheckpointError { return error }
        }
    }

    @Test("a weight that is not finite is named when it is used")
    func notFinite() throws {
        for name in [
            "model.layers.2.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight",
            "model.layers.5.input_layernorm.weight", "model.layers.1.self_attn.k_norm.weight", "lm_head.weight",
            "model.norm.weight",
        ] {
            for value in [Float.nan, .infinity] {
                var model = try EditableModel(fixture: "logits/qwen3")
                model[name][1] = value
                let error = try failure(model)
                #expect(error?.category == .notFinite && error?.tensor == name, "\(name) \(value): \(error as Any)")
            }
        }
        // Of an embedding a token's row is used, and no other.
        var model = try EditableModel(fixture: "logits/qwen3")
        model["model.embed_tokens.weight"][7 * 32] = .nan
        #expect(try failure(model) == nil)
        #expect(try failure(model, tokens: [7])?.tensor == "model.embed_tokens.weight")
    }

    @Test("values beyond fp32 on the way are told from weights that are")
    func overflow() throws {
        var model = try EditableModel(fixture: "logits/qwen3")
        let name = "model.layers.3.mlp.down_proj.weight"
        model[name] = model[name].map { _ in 3e38 }
        let error = try #require(try failure(model))
        #expect(error.category == .notFinite && error.problem.contains("layer 3") && error.tensor == nil)
    }

    @Test("what is missing or contradicts itself")
    func contradictions() throws {
        var missing = try EditableModel(fixture: "logits/hxa079")
        missing.remove("model.layers.2.self_attn.w2")
        #expect(try failure(missing)?.problem.contains("model.layers.2.self_attn.w2 is missing") == true)

        var shape = try EditableModel(fixture: "logits/hxa079")
        shape.shapes["model.layers.2.self_attn.w1"] = [8, 32]
        #expect(try failure(shape)?.problem.contains("model.layers.2.self_attn.w1 is [8, 32], not [32, 8]") == true)

        for (key, value, words) in [
            ("num_hidden_layers", 5, "num_hidden_layers 5"), ("hidden_size", 40, "width is 40"),
            ("num_attention_heads", 8, "heads"), ("rope_scaling", ["rope_type": "sideways"], "sideways"),
            ("hidden_act", "gelu", "gelu"), ("first_values", "anywhere", "first_values"),
        ] as [(String, Any, String)] {
            var model = try EditableModel(fixture: "logits/hxa079")
            model.configure(key, value)
            let error = try failure(model)
            #expect(error?.description.contains(words) == true, "\(key): \(error as Any)")
        }
    }

    @Test("a file that becomes shorter while the model runs")
    func truncated() throws {
        try withTemporaryDirectory { directory in
            var large = try EditableModel(fixture: "logits/qwen3")
            // Pages behind what was read before.
            large.configure("vocab_size", 20000)
            for name in ["model.embed_tokens.weight", "lm_head.weight"] {
                large.shapes[name] = [20000, 32]
                large[name] = (0..<20000 * 32).map { Float($0 % 17) / 10 }
            }
            try large.write(to: directory)
            let model = try load(directory)
            let kernels = try #require(Kernels<Float>(.fast, threads: 2))
            var state = model.start(length: 4)
            let file = try FileHandle(forWritingTo: directory.appending(path: "model.safetensors"))
            try file.truncate(atOffset: 4096)
            do {
                _ = try model.logits(try model.hidden([1, 19999], &state, kernels), kernels)
                Issue.record("nothing was noticed")
            } catch let error as CheckpointError {
                #expect(error.category == .inputOutput && error.problem.contains("became shorter"))
            }
        }
    }
}
