import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing
import TokenFiles

/// Tests that faults in decoders that differ from Llama are flagged in the first layer and block that they affect.
struct DecoderFaultTests {
    /// The directories in fixtures/ that contain the models.
    private static let roots = ["decoders", "eagle-finch", "hxa07", "radlads", "arwkv"]

    struct Fault: CustomTestStringConvertible, Sendable {
        let name: String
        /// The directory of the model in one of ``roots``.
        let model: String
        /// The first layer that the fault affects; nil if the affected block is the embedding or the head.
        let layer: Int?
        let block: Verification.Block
        var constants: [String] = []
        let plant: @Sendable (inout EditableModel) -> Void
        var testDescription: String { "\(model): \(name)" }
    }

    static func scale(_ model: inout EditableModel, _ name: String, by factor: Float) {
        model[name] = model[name].map { $0 * factor }
    }

    /// Makes a norm multiply by w instead of 1 + w.
    private static func forgetOne(_ model: inout EditableModel, _ name: String) {
        model[name] = model[name].map { $0 - 1 }
    }

    /// Reorders the rows of each head; `order` has one entry for each row of a head.
    private static func permute(_ model: inout EditableModel, _ name: String, heads: Int, _ order: [Int]) {
        let old = model[name]
        let width = old.count / (heads * order.count)
        var new: [Float] = []
        for head in 0..<heads {
            for channel in order {
                let start = (head * order.count + channel) * width
                new += old[start..<start + width]
            }
        }
        model[name] = new
    }

    private static let (full, sliding) = (
        ["rope_type": "linear", "rope_theta": 1e6, "factor": 4.0] as [String: any Sendable],
        ["rope_type": "default", "rope_theta": 1e4] as [String: any Sendable]
    )

    static let faults: [Fault] = [
        Fault(name: "window of one more", model: "mistral", layer: 0, block: .mixer, constants: ["attention window"]) {
            $0.configure("sliding_window", 9)
        },
        Fault(name: "window of one less", model: "phi3", layer: 0, block: .mixer, constants: ["attention window"]) {
            $0.configure("sliding_window", 7)
        },
        Fault(name: "window forgotten", model: "phi3", layer: 0, block: .mixer, constants: ["attention window"]) {
            $0.configure("sliding_window", NSNull())
        },
        Fault(
            name: "windows in the other layers", model: "gemma2", layer: 0, block: .mixer,
            constants: ["attention window"]
        ) {
            $0.configure(
                "layer_types", ["full_attention", "sliding_attention", "full_attention", "sliding_attention"])
        },
        Fault(
            name: "window in a layer that has none", model: "gemma3", layer: 2, block: .mixer,
            constants: ["rotation of attention", "attention window"]
        ) {
            $0.configure("layer_types", Array(repeating: "sliding_attention", count: 6))
            $0.configure("rope_parameters", ["full_attention": full, "sliding_attention": sliding])
        },
        Fault(name: "cap on scores dropped", model: "gemma2", layer: 0, block: .mixer, constants: ["score softcap"]) {
            $0.configure("attn_logit_softcapping", NSNull())
        },
        Fault(name: "cap on logits dropped", model: "gemma2", layer: nil, block: .head, constants: ["logit softcap"]) {
            $0.configure("final_logit_softcapping", NSNull())
        },
        Fault(
            name: "scale of heads for the query scale", model: "gemma2", layer: 0, block: .mixer,
            constants: ["query scale"]
        ) {
            $0.configure("query_pre_attn_scalar", 8)
        },
        Fault(
            name: "theta of layers with a window in the others", model: "gemma3", layer: 2, block: .mixer,
            constants: ["rotation of attention"]
        ) {
            $0.configure("rope_parameters", ["full_attention": sliding, "sliding_attention": sliding])
        },
        Fault(
            name: "theta of full layers in those with a window", model: "gemma3", layer: 0, block: .mixer,
            constants: ["rotation of attention"]
        ) {
            $0.configure("rope_parameters", ["full_attention": full, "sliding_attention": full])
        },
        Fault(name: "1 + w forgotten before attention", model: "gemma2", layer: 1, block: .mixer) {
            forgetOne(&$0, "model.layers.1.input_layernorm.weight")
        },
        Fault(name: "1 + w forgotten after attention", model: "gemma3", layer: 3, block: .mixer) {
            forgetOne(&$0, "model.layers.3.post_attention_layernorm.weight")
        },
        Fault(name: "1 + w forgotten in heads", model: "gemma3", layer: 4, block: .mixer) {
            forgetOne(&$0, "model.layers.4.self_attn.q_norm.weight")
        },
        Fault(name: "1 + w forgotten before the MLP", model: "gemma2", layer: 2, block: .mlp) {
            forgetOne(&$0, "model.layers.2.pre_feedforward_layernorm.weight")
        },
        Fault(name: "1 + w forgotten after the MLP", model: "gemma3", layer: 5, block: .mlp) {
            forgetOne(&$0, "model.layers.5.post_feedforward_layernorm.weight")
        },
        Fault(name: "SiLU for GELU", model: "gemma2", layer: 0, block: .mlp, constants: ["activation"]) {
            $0.configure("hidden_activation", "silu")
        },
        Fault(name: "embedding scale forgotten", model: "gemma3", layer: nil, block: .embedding) {
            // The tied head changes too, but the embedding is the first block that diverges.
            scale(&$0, "model.embed_tokens.weight", by: 1 / Float(24).squareRoot())
        },
        Fault(name: "half-split pairs", model: "glm4", layer: 0, block: .mixer) { model in
            // With these rows reordered, the model gives the same result as an engine that rotates half-split pairs
            // would with the original weights.
            let order: [Int] = [0, 4, 1, 5, 2, 6, 3, 7] + Array(8..<16)
            for layer in 0..<3 {
                for (part, heads) in [("q_proj", 3), ("k_proj", 1)] {
                    for end in ["weight", "bias"] {
                        permute(&model, "model.layers.\(layer).self_attn.\(part).\(end)", heads: heads, order)
                    }
                }
            }
        },
        Fault(
            name: "all of each head turned", model: "phi4-mini", layer: 0, block: .mixer,
            constants: ["rotation of attention"]
        ) { model in
            model.configure("rope_parameters", ["rope_type": "default", "rope_theta": 1e4])
        },
        Fault(name: "norm after attention forgotten", model: "glm4", layer: 1, block: .mixer) {
            scale(&$0, "model.layers.1.post_self_attn_layernorm.weight", by: 1.1)
        },
        Fault(name: "norm after the MLP forgotten", model: "glm4", layer: 2, block: .mlp) {
            scale(&$0, "model.layers.2.post_mlp_layernorm.weight", by: 1.1)
        },
        Fault(name: "gate and up exchanged in one tensor", model: "phi4", layer: 1, block: .mlp) { model in
            let name = "model.layers.1.mlp.gate_up_proj.weight"
            let half = model[name].count / 2
            model[name] = Array(model[name][half...] + model[name][..<half])
        },
    ]

    private func load(_ path: String) throws -> Model<Float> { try Model(RecognisedModel(Checkpoint.open(path))) }

    @Test("is flagged, with the first layer that it affects", arguments: faults + recurrentFaults)
    func fault(_ fault: Fault) throws {
        let fixture = try #require(
            Self.roots.map { "\($0)/\(fault.model)" }.first {
                FileManager.default.fileExists(atPath: Repository.fixture($0))
            })
        let reference = try load(Repository.fixture(fixture))
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        func verify(_ model: EditableModel) throws -> Verification {
            try withTemporaryDirectory { directory in
                try model.write(to: directory)
                return try Verification(
                    of: try load(directory.path), against: .model(reference), on: .seeded(vocabulary: 64), kernels)
            }
        }
        var model = try EditableModel(fixture: fixture)
        #expect(try verify(model).verdict == .match)
        fault.plant(&model)
        let found = try verify(model)
        #expect(found.verdict == .differs)
        #expect(found.firstDivergence?.layer == fault.layer && found.firstDivergence?.block == fault.block)
        // Differing constants in the configuration are reported by name.
        #expect(found.constants.map(\.name) == fault.constants)
    }

    /// As in transformers, sqrt(C) is rounded to the dtype of the stored embedding.
    @Test("a cast that changes the scale of an embedding is named")
    func embeddingScale() throws {
        let model = try EditableModel(fixture: "decoders/gemma2")
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        try withTemporaryDirectory { directory in
            let narrow = directory.appending(path: "narrow")
            try model.write(to: narrow, as: .bf16)
            let reference = try load(Repository.fixture("decoders/gemma2"))
            let found = try Verification(
                of: try load(narrow.path), against: .model(reference), on: .seeded(vocabulary: 64), kernels)
            #expect(found.constants.map(\.name) == ["embedding scale"])
        }
    }
}
