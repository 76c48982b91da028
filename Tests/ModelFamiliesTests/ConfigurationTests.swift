import Bytes
import CheckpointFiles
import Foundation
import TestSupport
import Testing

@testable import ModelFamilies

/// Tests of the keys of config.json, and of values that are rejected.
@Suite struct ConfigurationTests {
    private struct Keys: Decodable {
        struct Class: Decodable {
            let model_type: String
            let keys: [String]
        }
        let classes: [String: Class]
        let generation, shared: [String]
    }

    /// Each key of transformers' configuration classes is understood, harmless, or known to change the equations.
    ///
    /// No key is in two of these groups.
    @Test func everyKeyIsOfOneKind() throws {
        let all = try Repository.json("configuration-keys.json", as: Keys.self)
        #expect(all.classes.count >= 11)
        let understoodByAny = ArchitectureRegistry.standard.reduce(into: Set<ByteString>()) {
            $0.formUnion($1.understoodKeys)
        }
        #expect(understoodByAny.intersection(ModelConfiguration.harmlessKeys).isEmpty)
        #expect(ModelConfiguration.otherEquationKeys.intersection(ModelConfiguration.harmlessKeys).isEmpty)
        #expect(ModelConfiguration.otherEquationKeys.intersection(understoodByAny).isEmpty)
        for (name, own) in all.classes {
            // The architecture of a family also has the keys of a multimodal model, in addition to those of its text
            // model.
            let architecture = try #require(
                ArchitectureRegistry.standard.first { $0.configurationNames.contains(own.model_type) }, "\(name)")
            for key in own.keys + all.generation + all.shared {
                let kind = ModelConfiguration.kind(of: ByteString(key), understood: architecture.understoodKeys)
                #expect(kind != .unknown, "\(name) \(key)")
            }
        }
    }

    /// The families of teachers that have no class in transformers.
    private static let withoutClasses: Set<String> = []

    /// A config.json with only the sizes of a model means the same as one that spells out all defaults of its class.
    @Test func defaultsAreThoseOfTheClass() throws {
        let file = URL(filePath: Repository.fixture("configuration-keys.json"))
        let all = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
        let classes = try #require(all?["classes"] as? [String: [String: Any]])
        let sizes = [
            "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        ]
        func describe(_ root: [String: Any]) throws -> ModelDescription? {
            let text = String(decoding: try JSONSerialization.data(withJSONObject: root), as: UTF8.self)
            let recognition = try ModelRecognition.recognize(nil, configuration: try configuration(text))
            guard case .model(let model) = recognition, model.architecture.isTeacher else { return nil }
            return model
        }
        var count = 0
        for (name, own) in classes {
            let defaults = try #require(own["defaults"] as? [String: Any], "\(name)")
            guard let expected = try describe(defaults) else { continue }
            var terse = defaults.filter { sizes.contains($0.key) }
            if let text = defaults["text_config"] as? [String: Any] {
                terse["text_config"] = text.filter { sizes.contains($0.key) }
            }
            let found = try #require(try describe(terse), "\(name)")
            #expect(found.findings.isEmpty && found.unknown.isEmpty, "\(name): \(found.findings) \(found.unknown)")
            #expect(found.differencesFromLlama == expected.differencesFromLlama, "\(name)")
            #expect(found.epsilon == expected.epsilon && found.rotary == expected.rotary, "\(name)")
            #expect(found.hasTiedHead == expected.hasTiedHead, "\(name)")
            #expect(found.dimensions == expected.dimensions, "\(name)")
            #expect(found.identity == expected.identity, "\(name)")
            count += 1
        }
        // Two families have two classes each.
        let families = ArchitectureRegistry.standard.filter { $0.isTeacher && !Self.withoutClasses.contains($0.family) }
        #expect(count == families.count + 2)
    }

    /// A student's config.json keeps the keys of its teacher's config.json.
    @Test func studentsUnderstandTheirTeachersKeys() {
        let teacher = Architecture(
            family: "toy", configurationNames: ["toy"], body: DecoderBody(norm: .rms, feedForward: .gated(.silu)),
            attention: Attention(inputBias: .configured(key: "qkv_bias")), layouts: [.huggingFace], isTeacher: true)
        #expect(Architecture.cxa079.over(teacher).understoodKeys.contains("qkv_bias"))
        #expect(!Architecture.cxa079.over(.llama).understoodKeys.contains("qkv_bias"))
    }

    private func configuration(_ text: String) throws -> ModelConfiguration {
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "config.json")
            try text.write(to: file, atomically: false, encoding: .utf8)
            return try ModelConfiguration(path: file.path)
        }
    }

    private func describe(_ keys: String, of type: String) throws -> ModelDescription {
        let sizes = #""vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "#
        let text = #"{"model_type": "\#(type)", \#(sizes)"intermediate_size": 40, "num_hidden_layers": 4, \#(keys)}"#
        guard
            case .model(let model) = try ModelRecognition.recognize(nil, configuration: try configuration(text))
        else { throw CheckpointError(.unsupported, path: type, "not recognised") }
        return model
    }

    private func findings(_ keys: String, of type: String = "llama") throws -> [String] {
        try describe(keys, of: type).findings.map(\.message)
    }

    @Test func keysThatChangeEquationsAreRefusedByNameAndValue() throws {
        let theta = #""rope_theta": 1e4"#
        #expect(try findings(theta).isEmpty)
        for (key, value) in [
            ("sliding_window", "8"), ("attn_logit_softcapping", "50"), ("query_pre_attn_scalar", "3"),
            ("is_causal", "false"),
            ("is_causal", "null"), ("embedding_multiplier", "12"), ("mlp_bias", "true"), ("hidden_act", #""gelu""#),
            ("layer_types", #"["sliding_attention"]"#), ("num_experts", "8"), ("use_sliding_window", "true"),
            ("partial_rotary_factor", "0.5"),
        ] {
            let found = try findings(#"\#(theta), "\#(key)": \#(value)"#)
            #expect(
                found.count == 1 && found[0].contains(key) && (value.hasPrefix("[") || found[0].contains(value)),
                "\(key) \(found)")
        }
        for keys in [
            #""sliding_window": null"#, #""sliding_window": 4096, "use_sliding_window": false"#,
            #""sliding_window": 4096, "max_position_embeddings": 4096"#, #""mlp_bias": false"#, #""is_causal": true"#,
            #""layer_types": ["full_attention"]"#, #""embedding_multiplier": 1.0"#, #""logit_scale": 1"#,
            #""use_cache": true, "surprise": 7"#,
        ] { #expect(try findings("\(theta), \(keys)").isEmpty, "\(keys)") }
        let unknown = try RecognisedModel(
            try configuration(#"{"model_type": "llama", "num_hidden_layers": 1, "surprise": 7, "use_cache": true}"#))
        #expect(unknown.warnings.map(\.message).contains { $0.contains("surprise") && !$0.contains("use_cache") })
    }

    @Test func anotherGroupNormIsRefused() throws {
        let sizes = #""hidden_size": 64, "head_size": 16, "vocab_size": 8, "num_hidden_layers": 1"#
        for type in ["rwkv5", "rwkv6"] {
            for (divisor, count) in [(8, 0), (4, 1)] {
                let text = #"{"model_type": "\#(type)", \#(sizes), "head_size_divisor": \#(divisor)}"#
                let recognition = try ModelRecognition.recognize(nil, configuration: try configuration(text))
                guard case .model(let model)? = recognition else {
                    Issue.record("\(type) is not recognised")
                    continue
                }
                #expect(model.findings.count == count, "\(model.findings)")
            }
        }
    }

    @Test func configurationsThatContradictThemselvesAreRefused() throws {
        for (type, keys) in [
            ("mistral", #""sliding_window": 0"#), ("gemma2", #""sliding_window": 0"#),
            ("gemma3_text", #""layer_types": ["full_attention"]"#),
            ("mistral", #""sliding_window": 8, "layer_types": ["full_attention", "windowed", "x", "y"]"#),
            ("phi3", #""partial_rotary_factor": 1.5"#), ("glm4", #""partial_rotary_factor": 0"#),
            ("gemma2", #""query_pre_attn_scalar": 0"#), ("gemma2", #""attn_logit_softcapping": -1"#),
            ("gemma2", #""final_logit_softcapping": 1e300"#),
            ("gemma3_text", #""sliding_window_pattern": 0"#), ("gemma2", #""query_pre_attn_scalar": 1e-60"#),
            ("gemma2", #""final_logit_softcapping": 1e-60"#), ("llama", #""tie_word_embeddings": "true""#),
            ("llama", #""rope_theta": 1e4, "attention_bias": 1"#), ("qwen2", #""use_sliding_window": "yes""#),
            ("gemma3_text", #""rope_parameters": {"full_attention": 3, "sliding_attention": null}"#),
            ("gemma3_text", #""rope_parameters": {"rope_type": "linear", "factor": 8, "rope_theta": 500}"#),
        ] {
            let error = #expect(throws: CheckpointError.self, "\(type) \(keys)") { try describe(keys, of: type) }
            #expect(error?.category == .malformed)
        }
    }

    /// RoPE settings are checked in all layers, including layers with a sliding window, which have their own settings.
    @Test func rotationsThatCannotBeComputedAreRefused() throws {
        func rope(_ sliding: String) -> String {
            #""max_position_embeddings": 64, "head_dim": 8, "rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}, "#
                + #""sliding_attention": {"rope_theta": 1e4, \#(sliding)}}"#
        }
        #expect(try findings(rope(#""rope_type": "default""#), of: "gemma3_text").isEmpty)
        #expect(try findings(rope(#""rope_type": "weird""#), of: "gemma3_text").contains { $0.contains("weird") })
        let lists = #""rope_type": "longrope", "short_factor": [1], "long_factor": [1, 2, 3], "factor": 2"#
        #expect(try findings(rope(lists), of: "gemma3_text").contains { $0.contains("3 numbers in long_factor") })
        for part in ["0.01", "0.19", "1e-300"] {
            let found = try findings(#""head_dim": 16, "partial_rotary_factor": \#(part)"#, of: "glm4")
            #expect(found.contains { $0.contains("channels of a head in pairs") }, "\(part)")
        }
    }

    /// In transformers, only some families read partial_rotary_factor, whether or not it is in rope_parameters.
    @Test func partsOfHeadsAreRefusedWhereNothingReadsThem() throws {
        let nested = #""rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}"#
        for type in ["llama", "mistral", "gemma2", "qwen3"] {
            #expect(try findings(nested, of: type).contains { $0.contains("partial_rotary_factor to 0.5") }, "\(type)")
        }
        for type in ["phi3", "glm4"] { #expect(try findings(nested, of: type).isEmpty, "\(type)") }
    }

    /// The first Phi-3 files name the scaling type "su" or "yarn", and do not state the original context length.
    @Test func rotationsOfTheFirstPhi3() throws {
        let factors = #""short_factor": [1, 1, 1, 1], "long_factor": [1, 2, 3, 4]"#
        for type in ["su", "yarn", "longrope"] {
            let model = try describe(
                #""max_position_embeddings": 131072, "rope_scaling": {"type": "\#(type)", \#(factors)}"#, of: "phi3")
            #expect(model.findings.isEmpty && model.rotary?.type == "longrope")
            #expect(model.rotary?.parameters["original_max_position_embeddings"] == 4096)
        }
        #expect(try findings(#""rope_theta": 1e4, "rope_scaling": {"type": "su"}"#).contains { $0.contains("su") })
    }

    @Test func windowsAreReadInEverySpelling() throws {
        func windows(_ keys: String, of type: String) throws -> [Int?] {
            try describe(keys, of: type).layers.map { $0.attention?.window }
        }
        let types = #""layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]"#
        #expect(try windows(#""sliding_window": 8"#, of: "mistral") == [8, 8, 8, 8])
        #expect(try windows(#""sliding_window": null"#, of: "mistral") == [nil, nil, nil, nil])
        #expect(
            try windows(#""sliding_window": 64, "max_position_embeddings": 64"#, of: "phi3") == [nil, nil, nil, nil])
        #expect(try windows(#""use_cache": true"#, of: "mistral") == [4096, 4096, 4096, 4096])
        #expect(try windows(#""sliding_window": 8, \#(types)"#, of: "ministral") == [nil, 8, nil, 8])
        #expect(try windows(#""sliding_window": 8"#, of: "phi3") == [8, 8, 8, 8])
        #expect(try windows(#""sliding_window": 8"#, of: "gemma2") == [8, nil, 8, nil])
        #expect(
            try windows(#""sliding_window": 8, "sliding_window_pattern": 2"#, of: "gemma3_text") == [8, nil, 8, nil])
        #expect(try windows(#""use_cache": true"#, of: "gemma3_text").first == 4096)
        #expect(
            try windows(#""use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3"#, of: "qwen2")
                == [nil, nil, nil, 8])
        #expect(try windows(#""use_sliding_window": false, "sliding_window": 8"#, of: "qwen3") == [nil, nil, nil, nil])
    }

    @Test func tensorsWhoseRowsDoNotDivideAreRefused() throws {
        let fixture = try Checkpoint.open(Repository.fixture("decoders/phi3"))
        for (name, rows) in [("qkv_proj", 63), ("qkv_proj", 65), ("gate_up_proj", 81), ("gate_up_proj", 40)] {
            for layers in [0..<1, 0..<3] {
                try withTemporaryDirectory { directory in
                    let file = directory.appending(path: "model.safetensors")
                    let tensors = fixture.tensors.map { tensor in
                        let isChanged =
                            layers.contains { tensor.name.contains("layers.\($0).") } && tensor.name.contains(name)
                        return (tensor.name, isChanged ? [rows, tensor.shape[1]] : tensor.shape)
                    }
                    try writeSafetensors(tensors, to: file)
                    try FileManager.default.copyItem(
                        atPath: Repository.fixture("decoders/phi3/config.json"),
                        toPath: directory.appending(path: "config.json").path)
                    let checkpoint = try Checkpoint.open(file.path(percentEncoded: false))
                    let model = try #require(try RecognisedModel(checkpoint).knownDescription)
                    let conversionBlocker = try #require(model.conversionBlocker, "\(name) \(rows)")
                    #expect(model.runBlocker != nil && !conversionBlocker.contains("\n"))
                }
            }
        }
    }
}
