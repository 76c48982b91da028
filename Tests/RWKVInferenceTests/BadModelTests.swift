import Bytes
import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

/// Tests that a model that cannot be run gives a one-line error that states the reason.
struct BadModelTests {
    private func load(_ directory: URL) throws -> Model<Float> {
        try Model(RecognisedModel(Checkpoint.open(directory.path)))
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
        // A token reads only its own row of the embedding.
        var model = try EditableModel(fixture: "logits/qwen3")
        model["model.embed_tokens.weight"][7 * 32] = .nan
        #expect(try failure(model) == nil)
        #expect(try failure(model, tokens: [7])?.tensor == "model.embed_tokens.weight")
    }

    @Test("activations that overflow fp32 are distinguished from weights that are not finite")
    func overflow() throws {
        var model = try EditableModel(fixture: "logits/qwen3")
        let name = "model.layers.3.mlp.down_proj.weight"
        model[name] = model[name].map { _ in 3e38 }
        let error = try #require(try failure(model))
        #expect(error.category == .notFinite && error.problem.contains("layer 3") && error.tensor == nil)
    }

    @Test("missing and contradictory tensors and settings are reported")
    func contradictions() throws {
        var missing = try EditableModel(fixture: "logits/hxa079")
        missing.remove("model.layers.2.self_attn.w2")
        #expect(try failure(missing)?.problem.contains("model.layers.2.self_attn.w2 is missing") == true)

        var shape = try EditableModel(fixture: "logits/hxa079")
        shape.shapes["model.layers.2.self_attn.w1"] = [8, 32]
        #expect(
            try failure(shape)?.problem.contains("model.layers.2.self_attn.w1 has shape [8, 32], not [32, 8]") == true)

        for (key, value, words) in [
            ("num_hidden_layers", 5, "num_hidden_layers to 5"), ("hidden_size", 40, "implies width 40"),
            ("num_attention_heads", 8, "heads"), ("rope_scaling", ["rope_type": "sideways"], "sideways"),
            ("hidden_act", "gelu", "gelu"), ("first_values", "anywhere", "first_values"),
        ] as [(String, Any, String)] {
            var model = try EditableModel(fixture: "logits/hxa079")
            model.configure(key, value)
            let error = try failure(model)
            #expect(error?.description.contains(words) == true, "\(key): \(error as Any)")
        }
    }

    @Test("a file that is truncated while the model runs is reported")
    func truncated() throws {
        try withTemporaryDirectory { directory in
            var large = try EditableModel(fixture: "logits/qwen3")
            // The tensors are large enough to extend to pages that have not been read yet.
            large.configure("vocab_size", 20000)
            for name in ["model.embed_tokens.weight", "lm_head.weight"] {
                large.shapes[name] = [20000, 32]
                large[name] = (0..<20000 * 32).map { Float($0 % 17) / 10 }
            }
            try large.write(to: directory)
            let model = try load(directory)
            let kernels = try #require(Kernels<Float>(.fast, threads: 2))
            let file = try FileHandle(forWritingTo: directory.appending(path: "model.safetensors"))
            // First, only a few bytes are cut off, after which the rest of the last page reads as zeros.
            for end in [try file.seekToEnd() - 8, 4096] {
                try file.truncate(atOffset: end)
                var state = model.start(length: 4)
                do {
                    _ = try model.logits(try model.hidden([1, 19999], &state, kernels), kernels)
                    Issue.record("nothing was noticed")
                } catch let error as CheckpointError {
                    #expect(error.category == .inputOutput && error.problem.contains("was truncated"))
                }
            }
        }
    }

    @Test("impossible sizes are refused before a kernel runs")
    func sizes() throws {
        var zero = try EditableModel(fixture: "logits/hxa079")
        for layer in [0, 2] {
            zero.shapes["model.layers.\(layer).self_attn.w1"] = [32, 0]
            zero["model.layers.\(layer).self_attn.w1"] = []
            zero.shapes["model.layers.\(layer).self_attn.w2"] = [0, 64]
            zero["model.layers.\(layer).self_attn.w2"] = []
        }
        zero.configure("lora_rank_decay", NSNull())
        #expect(try failure(zero)?.problem.contains("w1 has the implausible shape [32, 0]") == true)

        var odd = try EditableModel(fixture: "logits/qwen3")
        for layer in 0..<6 {
            for (part, rows) in [("q_proj", 60), ("k_proj", 30), ("v_proj", 30)] {
                let name = "model.layers.\(layer).self_attn.\(part).weight"
                odd.shapes[name] = [rows, 32]
                odd[name] = Array(odd[name].prefix(rows * 32))
            }
            odd.shapes["model.layers.\(layer).self_attn.o_proj.weight"] = [32, 60]
            odd["model.layers.\(layer).self_attn.o_proj.weight"] = Array(repeating: 0.1, count: 32 * 60)
            for part in ["q_norm", "k_norm"] {
                odd.shapes["model.layers.\(layer).self_attn.\(part).weight"] = [15]
                odd["model.layers.\(layer).self_attn.\(part).weight"] = Array(repeating: 1, count: 15)
            }
        }
        odd.configure("head_dim", 15)
        #expect(try failure(odd)?.problem.contains("cannot rotate 15 of the 15 channels of a head in pairs") == true)
    }

    @Test("unused tensors do not hide one that is wrong, however many there are")
    func manyUnused() throws {
        for (name, shape) in [("self_attn.q_norm.weight", [3]), ("mlp.up_proj.weight", [64, 31])] {
            var model = try EditableModel(fixture: "logits/qwen3")
            for number in 0..<1200 { model.add("extra.\(number)", [1], [0]) }
            #expect(try failure(model) == nil)
            let name = "model.layers.4." + name
            model.shapes[name] = shape
            model[name] = Array(repeating: 1, count: shape.reduce(1, *))
            #expect(try failure(model)?.problem.contains("\(name) has shape \(shape)") == true)
        }
    }

    @Test("a file that is overwritten while the model runs is reported")
    func changed() throws {
        try withTemporaryDirectory { directory in
            try EditableModel(fixture: "logits/qwen3").write(to: directory)
            let model = try load(directory)
            let kernels = try #require(Kernels<Float>(.fast, threads: 1))
            var state = model.start(length: 4)
            _ = try model.hidden([1, 2], &state, kernels)
            let file = try FileHandle(forWritingTo: directory.appending(path: "model.safetensors"))
            try file.seek(toOffset: 40000)
            try file.write(contentsOf: Data([1]))
            try file.synchronize()
            do {
                _ = try model.hidden([3], &state, kernels)
                Issue.record("nothing was noticed")
            } catch let error as CheckpointError {
                #expect(error.category == .inputOutput && error.problem.contains("was changed"))
            }
        }
    }

    @Test("key norms without query norms, missing residuals and differing heads are reported")
    func incomplete() throws {
        var keys = try EditableModel(fixture: "logits/hxa079")
        for layer in 0..<4 {
            keys.remove("model.layers.\(layer).self_attn.\(layer % 2 == 0 ? "r_norm" : "q_norm").weight")
        }
        #expect(try failure(keys)?.reason.contains("model.layers.0.self_attn.r_norm.weight is missing") == true)

        var first = try EditableModel(fixture: "logits/hxa079-gqa-first")
        for part in ["v0", "v1", "v2", "k0", "k1", "k2"] { first.remove("model.layers.1.self_attn.\(part)") }
        #expect(try failure(first) == nil)
        first.configure("first_values", "layer_0")
        let missing = try #require(try failure(first)).problem
        #expect(missing.contains("model.layers.1.self_attn.v0 is missing"), "\(missing)")

        var tied = try EditableModel(fixture: "logits/qwen3")
        tied.configure("tie_word_embeddings", true)
        #expect(try failure(tied)?.tensor == "lm_head.weight")
        tied["lm_head.weight"] = tied["model.embed_tokens.weight"]
        #expect(try failure(tied) == nil)
    }
}
