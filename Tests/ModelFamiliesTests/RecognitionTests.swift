import Bytes
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import TestSupport
import Testing

/// Tests of recognition from tensor names and shapes, including invalid ones and those of other families.
@Suite struct RecognitionTests {
    private func recognize(
        _ tensors: [(name: String, shape: [Int])], variant: String? = nil, configuration: String? = nil
    ) throws -> ModelRecognition? {
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "model.safetensors")
            try writeSafetensors(tensors, to: file)
            let checkpoint = try Checkpoint.open(file.path(percentEncoded: false))
            if let configuration {
                try Data(configuration.utf8).write(to: directory.appending(path: "config.json"))
            }
            return try ModelRecognition.recognize(
                checkpoint, configuration: try ModelConfiguration(beside: checkpoint), variant: variant)
        }
    }

    private func model(_ recognition: ModelRecognition?) throws -> ModelDescription {
        guard case .model(let description) = recognition else {
            throw TestFailure("\(String(describing: recognition))")
        }
        return description
    }

    /// Returns the names and shapes of the tensors in a fixture.
    private func tensors(_ path: String) throws -> [(name: String, shape: [Int])] {
        try Checkpoint.open(Repository.fixture("models/" + path)).tensors.map { ($0.name, $0.shape) }
    }

    @Test func reportsByNameWhatIsRenamedMissingExtraOrMisshapen() throws {
        let q = "model.layers.1.self_attn.q_proj.weight"
        func findings(_ change: (inout [(name: String, shape: [Int])]) -> Void) throws -> [String] {
            var tensors = try tensors("qwen3")
            change(&tensors)
            let found = try model(try recognize(tensors))
            #expect(
                found.architecture.family == "qwen3" && found.layers.count == 4 && found.dimensions[.headSize] == 16)
            return found.findings.map { "\($0.kind.rawValue) \($0.tensor ?? "")" }.sorted()
        }
        func index(_ tensors: [(name: String, shape: [Int])]) -> Int { tensors.firstIndex { $0.name == q } ?? 0 }
        #expect(try findings { $0.remove(at: index($0)) } == ["missing \(q)"])
        #expect(
            try findings { $0[index($0)].name = "model.layers.1.self_attn.query.weight" } == [
                "missing \(q)", "unexpected model.layers.1.self_attn.query.weight",
            ])
        #expect(try findings { $0.append(("model.layers.4000.x", [3])) } == ["unexpected model.layers.4000.x"])
        #expect(try findings { $0[index($0)].shape = [32, 64] } == ["shape \(q)"])
        // Only the tensor with the wrong shape is reported, even if it is in the first layer.
        #expect(
            try findings { tensors in
                let first = tensors.firstIndex { $0.name == "model.layers.0.mlp.up_proj.weight" } ?? 0
                tensors[first].shape = [65, 32]
            } == ["shape model.layers.0.mlp.up_proj.weight"])
    }

    @Test func reportsWhereConfigurationAndTensorsContradictEachOther() throws {
        let tensors = try tensors("hxa079")
        func contradictions(_ keys: String) throws -> [String] {
            let found = try model(try recognize(tensors, configuration: #"{"rwkv_architecture": "hxa079", \#(keys)}"#))
            #expect(found.kinds.map(\.rawValue) == ["rwkv7", "rwkv7", "gqa", "rwkv7"])
            return found.findings.filter { $0.kind == .contradiction }.map(\.message)
        }
        #expect(try contradictions(#""head_dim": 16"#).isEmpty)
        #expect(try contradictions(#""head_dim": 8"#)[0].hasSuffix("implies head size 8, but the tensors give 16"))
        #expect(
            try contradictions(#""num_hidden_layers": 5"#)[0].hasSuffix(
                "num_hidden_layers to 5, but there are tensors for 4 layers"))
        let kinds = try contradictions(#""transformer_layers": [1, 2]"#)
        #expect(kinds.count == 1 && kinds[0].contains("makes layer 1 attention"))
    }

    @Test func takesTheConstantsOfATeachersConfiguration() throws {
        let configuration = try ModelConfiguration(path: Repository.fixture("models/qwen3/config.json"))
        let checkpoint = try Checkpoint.open(Repository.fixture("models/hxa079.pth"))
        let found = try model(try ModelRecognition.recognize(checkpoint, configuration: configuration))
        #expect(found.variant == "hxa079" && found.rotary?.theta == 1_000_000 && found.epsilon == 1e-6)
        #expect(found.findings.isEmpty && found.unknown.isEmpty, "\(found.findings)")
    }

    @Test func takesNothingElseOfATeachersConfiguration() throws {
        let tensors = try tensors("hxa079.pth")
        for keys in [
            #""model_type": "qwen3", "tie_word_embeddings": true"#,
            #""model_type": "mistral", "quantization_config": {"quant_method": "fp8"}"#,
        ] {
            let found = try model(
                try recognize(tensors, configuration: "{\(keys), \"rms_norm_eps\": 1e-5, \"rope_theta\": 1e6}"))
            #expect(
                found.variant == "hxa079" && !found.hasTiedHead && found.quantisation == nil && found.epsilon == 1e-5)
        }
    }

    @Test func knowsWhatOlderTransformersSavedBesides() throws {
        let tensors = try tensors("llama") + (0..<3).map { ("model.layers.\($0).self_attn.rotary_emb.inv_freq", [4]) }
        let found = try model(try recognize(tensors))
        #expect(found.architecture.family == "llama" && found.findings.isEmpty)
    }

    @Test func findsTensorsOfAKindOfLayerThatTheFamilyLacks() throws {
        let found = try model(
            try recognize(
                try tensors("llama") + [("model.layers.0.self_attn.receptance.weight", [48, 48])],
                configuration: String(contentsOfFile: Repository.fixture("models/llama/config.json"), encoding: .utf8)))
        #expect(found.findings.map(\.tensor).contains("model.layers.0.self_attn.receptance.weight"))
        #expect(found.conversionBlocker != nil)
    }

    @Test func findsTheSameTensorTwice() throws {
        let found = try model(try recognize(try tensors("qwen3") + [("model.layers.01.mlp.up_proj.weight", [64, 32])]))
        #expect(found.findings.map(\.tensor) == ["model.layers.01.mlp.up_proj.weight"])
    }

    @Test func refusesWhatIsNoFloatOrNotMerged() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("models/qwen3"))
        let plain = try model(
            try ModelRecognition.recognize(checkpoint, configuration: ModelConfiguration(beside: checkpoint)))
        #expect(plain.conversionBlocker == nil)
        let adapted = try model(
            try recognize(
                try tensors("qwen3") + [
                    ("model.layers.0.self_attn.q_proj.lora_A.weight", [4, 32]),
                    ("model.layers.0.self_attn.q_proj.lora_B.weight", [64, 4]),
                ],
                configuration: String(contentsOfFile: Repository.fixture("models/qwen3/config.json"), encoding: .utf8)))
        #expect(adapted.conversionBlocker?.contains("2 adapter tensors") == true)
    }

    @Test func readsRotationHoweverItIsWritten() throws {
        func rotary(_ keys: String) throws -> RotaryEmbedding? {
            try model(try recognize(try tensors("llama"), configuration: #"{"model_type": "llama", \#(keys)}"#)).rotary
        }
        let linear = try rotary(#""rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4}"#)
        #expect(linear?.type == "linear" && linear?.parameters == ["factor": 4] && linear?.theta == 10000)
        #expect(try rotary(#""rope_parameters": null, "rope_scaling": {"rope_type": "linear", "factor": 4}"#) == linear)
        #expect(try rotary(#""rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 10000}"#) == linear)
        #expect(try rotary(#""hidden_act": "silu""#)?.type == "default")
        for wrong in [
            #"{"type": "linear"}"#, #"{"type": "linear", "factor": "4"}"#, #"{"type": 3}"#,
            #"{"type": "llama3", "factor": 8}"#, "[]",
        ] {
            #expect(throws: CheckpointError.self) { try rotary(#""rope_scaling": \#(wrong)"#) }
        }
    }

    @Test func refusesImpossibleValues() throws {
        let tensors = try tensors("qwen3")
        for keys in [
            #""hidden_size": -1"#, #""hidden_size": "32""#, #""rms_norm_eps": 0"#, #""rope_theta": []"#,
            #""num_hidden_layers": 1000000"#,
        ] {
            #expect(throws: CheckpointError.self, "\(keys)") {
                try recognize(tensors, configuration: #"{"model_type": "qwen3", \#(keys)}"#)
            }
        }
    }

    /// Returns two layers of tensors with the names that another family uses.
    private static func layers(_ prefix: String, _ names: [String], beside others: [String] = []) -> [(
        name: String, shape: [Int]
    )] {
        (others + (0..<2).flatMap { layer in names.map { "\(prefix).\(layer).\($0)" } }).map { ($0, [4, 4]) }
    }

    private static let body =
        ["input_layernorm.weight", "post_attention_layernorm.weight"]
        + ["gate_proj", "up_proj", "down_proj"].map { "mlp.\($0).weight" }
    private static let attention = ["q_proj", "k_proj", "v_proj", "o_proj"].map { "self_attn.\($0).weight" }
    private static let projections = ["receptance", "key", "value", "output"].map { "self_attn.\($0).weight" }
    private static let lowRanks = ["w0", "w1", "w2", "a0", "a1", "a2", "g1", "g2"].map { "self_attn.\($0)" }
    private static let model = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    private static let flat = ["emb.weight", "ln_out.weight", "head.weight"]

    private static func student(_ names: [String]) -> [(name: String, shape: [Int])] {
        layers("model.layers", body + projections + lowRanks + names.map { "self_attn.\($0)" }, beside: model)
    }

    private static let others: [(String, String, [(name: String, shape: [Int])])] = [
        ("goldfinch", "goldfinch", layers("blocks", ["att.time_maa_x"], beside: flat + ["w_kv_cache_a.weight"])),
        // The layers have the projections of time mixing and of attention.
        (
            "rwkv7", "x070 with attention",
            layers("model.layers", ["attn.r_proj.weight", "attn.q_proj.weight"], beside: ["model.embeddings.weight"])
        ),
        ("rimer", "rimer", layers("decoder", ["attn.x"], beside: ["backbone.patch_embedding.value_embedding.weight"])),
        ("cxa", "cxa075", student(["v0", "v1", "v2", "r_k", "k_k", "k_a"])),
    ]

    @Test(arguments: others.indices)
    func namesFamiliesThatAreNotDescribed(number: Int) throws {
        let (family, variant, tensors) = Self.others[number]
        guard case .other(let found, let name, let evidence) = try recognize(tensors) else {
            Issue.record("\(family) is \(String(describing: try recognize(tensors)))")
            return
        }
        #expect(found == family && name ?? "" == variant && !evidence.isEmpty)
    }

    @Test func guessesNothing() throws {
        let undecidable = [
            (
                ["cxa076r", "cxa077", "cxa078"],
                Self.student(["v0", "v1", "v2", "r_k", "r_norm.weight", "k_norm.weight"])
            ),
            (["cxa07b", "cxa07c"], Self.student(["v1", "v2", "r_norm.weight", "k_norm.weight"])),
            (["cxa073", "cxa074"], Self.student(["v0", "v1", "v2", "r_k", "k_k", "k_a", "ln_x.weight", "ln_x.bias"])),
        ]
        for (names, tensors) in undecidable {
            guard case .undecided(let candidates, _) = try recognize(tensors) else {
                Issue.record("\(names) are \(String(describing: try recognize(tensors)))")
                continue
            }
            #expect(candidates == names)
        }
        // Attention and time mixing both have these norms. cxa076 with these norms is a different variant.
        let norms = ["att.ln_r.weight", "att.ln_k.weight"]
        let hybrid = try tensors("hxa079.pth").filter {
            !$0.name.contains(".k0") && !$0.name.contains(".k1") && !$0.name.contains(".k2")
        }
        #expect(hybrid.contains { $0.name.hasSuffix(norms[0]) })
        guard case .undecided(["cxa076r", "cxa077", "cxa078"], _) = try recognize(hybrid) else {
            Issue.record("hxa078 is \(String(describing: try recognize(hybrid)))")
            return
        }
        // A body that lacks a norm or has biases does not belong to any known family.
        for change in [
            { (name: String) in name.hasSuffix("post_attention_layernorm.weight") ? nil : name },
            { $0.replacing("o_proj.weight", with: "o_proj.bias") },
        ] as [(String) -> String?] {
            #expect(
                try recognize(
                    try tensors("llama").compactMap { tensor in change(tensor.name).map { ($0, tensor.shape) } }) == nil
            )
        }
        // If two variants have the same tensors, a configuration can name one of them.
        let either = Self.student(["v1", "v2", "r_norm.weight", "k_norm.weight"])
        guard case .undecided(["cxa07b", "cxa07c"], _) = try recognize(either) else {
            Issue.record("hxa07c is \(String(describing: try recognize(either)))")
            return
        }
        for name in ["hxa07b", "hxa07c"] {
            let named = try model(try recognize(either, configuration: #"{"rwkv_architecture": "\#(name)"}"#))
            #expect(named.architecture.variants.contains(name))
            #expect(try model(try recognize(either, variant: name)).architecture.variants.contains(name))
        }
        // Mistral has the same tensors as Llama.
        let mistral = try model(
            try recognize(try tensors("llama"), configuration: #"{"model_type": "mistral", "rope_theta": 1e4}"#))
        #expect(mistral.architecture.family == "mistral")
        #expect(try recognize([("weight", [2]), ("model.layers.0.x", [3])]) == nil)
    }

    /// A family must not compete with another one for tensors without a config.json.
    @Test(arguments: [
        ("models/llama", "llama"), ("models/qwen2", "qwen2"), ("models/qwen3", "qwen3"), ("decoders/mistral", "llama"),
        ("decoders/phi3", "phi3"), ("decoders/gemma2", "gemma2"), ("decoders/gemma3", "gemma3_text"),
        ("decoders/glm4", "glm4"),
    ])
    func recognisesTeachersWithoutConfiguration(fixture: String, family: String) throws {
        let tensors = try Checkpoint.open(Repository.fixture(fixture)).tensors.map { ($0.name, $0.shape) }
        #expect(try model(recognize(tensors)).architecture.family == family)
    }

    /// RWKV-5 and RWKV-6 have as many keys as receptances, and RWKV-6 has five data-dependent token shifts.
    @Test func refusesOtherWidthsAndCountsInEagleAndFinch() throws {
        func findings(_ model: String, _ change: (String, [Int]) -> [Int]) throws -> [ModelFinding] {
            let path = Repository.fixture("eagle-finch/\(model).pth")
            let tensors = try Checkpoint.open(path).tensors.map { ($0.name, change($0.name, $0.shape)) }
            return try self.model(try recognize(tensors)).findings
        }
        for model in ["x060", "x052"] {
            #expect(try findings(model) { $1 }.isEmpty)
            for width in [16, 32, 47, 96] {
                let found = try findings(model) { name, shape in
                    name.hasSuffix("att.key.weight") || name.hasSuffix("att.value.weight") ? [width, 48] : shape
                }
                #expect(found.contains { $0.kind == .contradiction && $0.message.contains("\(width)") }, "\(width)")
            }
        }
        for count in [4, 6] {
            let found = try findings("x060") { name, shape in
                name.hasSuffix("time_maa_w2")
                    ? [count, 32, 48] : name.hasSuffix("time_maa_w1") ? [48, 32 * count] : shape
            }
            #expect(found.contains { $0.tensor?.hasSuffix("time_maa_w2") == true }, "\(count)")
            let alone = try findings("x060") { $0.hasSuffix("time_maa_w2") ? [count, 32, 48] : $1 }
            #expect(alone.allSatisfy { $0.tensor?.hasSuffix("time_maa_w2") == true } && !alone.isEmpty)
        }
    }

    /// An extra or missing tensor does not hide a student that config.json names.
    @Test func describesNamedStudentsWithOtherTensors() throws {
        let names = ["v1", "v2", "k1", "k2", "r_norm.weight", "k_norm.weight"]
        let found = try model(
            try recognize(Self.student(names), configuration: #"{"rwkv_architecture": "hxa07b"}"#))
        #expect(found.architecture.variant == "cxa07b")
        #expect(found.findings.contains { $0.kind == .unexpected && $0.message.contains("k1") })
    }

    @Test func takesTheVariantThatIsGiven() throws {
        let tensors = try tensors("cxa076")
        #expect(try model(try recognize(tensors, variant: "cxa076")).variant == "cxa076")
        #expect(throws: CheckpointError.self) { try recognize(tensors, variant: "hxa079") }
        #expect(throws: CheckpointError.self) { try recognize(tensors, variant: "x070") }
        #expect(throws: CheckpointError.self) { try recognize(tensors, variant: "cxa07x") }
    }

    private static let counts: [(String, Double)] = [
        ("qwen2.5-0.5b", 494.03e6), ("qwen2.5-7b", 7.62e9), ("qwen3-0.6b", 596.05e6), ("qwen3-8b", 8.19e9),
        ("llama-3.1-8b", 8.03e9),
        ("rwkv7-0.1b", 191.0e6),
    ]

    /// The parameter counts of published models are correct, both from config.json and from tensor names and shapes.
    @Test(arguments: counts)
    func countsTheParametersOfPublishedModels(name: String, count: Double) throws {
        let path = Repository.fixture("models/published/\(name).json")
        let configuration = try #require(try ModelConfiguration(alone: path))
        let planned = try model(try ModelRecognition.recognize(nil, configuration: configuration))
        let found = try #require(planned.parameterCounts).values.reduce(0, +)
        #expect(abs(Double(found) - count) / count < 0.002, "\(found)")

        let layout = planned.architecture.layouts[0]
        let tensors = try planned.tensors.map { tensor in
            (
                name: try #require(layout.name(of: tensor.role, layer: tensor.layer)),
                shape: layout.stored(try #require(tensor.shape), of: tensor.role)
            )
        }
        let read = try model(try recognize(tensors))
        #expect(read.architecture.family == planned.architecture.family && read.kinds == planned.kinds)
        #expect(read.parameterCounts == planned.parameterCounts && read.findings.isEmpty)
        #expect(read.cacheBytesPerToken == planned.cacheBytesPerToken)
    }

    /// The config.json in the hints takes precedence over the one next to the checkpoint and over the fallback.
    ///
    /// The fallback is used if there is no other config.json. Without any config.json, only the tensors are used.
    @Test func readsConfigurationsInOrder() throws {
        let model = try tensors("qwen3")
        try withTemporaryDirectory { directory in
            func write(_ name: String, _ document: String) throws -> String {
                let file = directory.appending(path: name)
                try Data(document.utf8).write(to: file)
                return file.path(percentEncoded: false)
            }
            func document(epsilon: String) -> String {
                #"{"model_type": "qwen3", "num_hidden_layers": 4, "rope_theta": 1e6, "rms_norm_eps": \#(epsilon)}"#
            }
            let path = directory.appending(path: "model.safetensors")
            try writeSafetensors(model, to: path)
            let checkpoint = try Checkpoint.open(path.path(percentEncoded: false))
            let given = try write("given.json", document(epsilon: "1e-3"))
            let other = try write("other.json", document(epsilon: "1e-4"))
            func epsilon(_ hints: ModelHints) throws -> Double? {
                try RecognisedModel(checkpoint, hints).description.epsilon
            }
            // There is no config.json next to the checkpoint.
            #expect(try epsilon(ModelHints()) == nil)
            #expect(try epsilon(ModelHints(fallbackConfiguration: other)) == 1e-4)
            let beside = try write("config.json", document(epsilon: "1e-6"))
            #expect(try epsilon(ModelHints()) == 1e-6)
            #expect(try epsilon(ModelHints(fallbackConfiguration: other)) == 1e-6)
            #expect(try epsilon(ModelHints(configuration: given, fallbackConfiguration: other)) == 1e-3)

            // A config.json that cannot be read is ignored, unless values are needed that only it could give. The
            // fallback is used instead if there is one.
            _ = try write("config.json", "{")
            let unread = try RecognisedModel(checkpoint)
            #expect(try #require(try unread.knownDescription).epsilon == nil && unread.configuration == nil)
            #expect(throws: (any Error).self) { try unread.description }
            #expect(unread.warnings.map(\.path) == [beside] && unread.warnings[0].message.hasPrefix("is not used: "))
            #expect(try epsilon(ModelHints(fallbackConfiguration: other)) == 1e-4)

            // A config.json with invalid values does not prevent inspection, but the model cannot be run without valid
            // values.
            _ = try write("config.json", document(epsilon: "-1"))
            let impossible = try RecognisedModel(checkpoint)
            guard case .model(let shown) = impossible.recognition else {
                throw TestFailure("\(String(describing: impossible.recognition))")
            }
            #expect(shown.layers.count == 4 && impossible.warnings.map(\.path) == [beside])
            #expect(throws: CheckpointError.self) { try impossible.description }
            #expect(throws: CheckpointError.self) { try impossible.knownDescription }
            #expect(try epsilon(ModelHints(configuration: given)) == 1e-3)

            // If the user names a config.json, it is either used or rejected.
            for name in ["config.json", "nowhere.json"] {
                let hints = ModelHints(configuration: directory.appending(path: name).path(percentEncoded: false))
                #expect(throws: CheckpointError.self) { try RecognisedModel(checkpoint, hints) }
            }
            let alone = try RecognisedModel(path: given, temporaryDirectory: "/tmp")
            #expect(alone.checkpoint == nil && alone.configuration?.path == given)
            let named = try RecognisedModel(
                path: path.path(percentEncoded: false), ModelHints(configuration: given), temporaryDirectory: "/tmp")
            #expect(try named.checkpoint != nil && named.description.epsilon == 1e-3)
        }
    }

    /// A fallback variant is used if the tensors fit several variants.
    ///
    /// A variant that the user names must match the tensors.
    @Test func takesVariantsFromHints() throws {
        func variant(_ fixture: String, _ hints: ModelHints) throws -> String? {
            let tensors = try Checkpoint.open(Repository.fixture(fixture)).tensors.map { ($0.name, $0.shape) }
            return try withTemporaryDirectory { directory in
                let path = directory.appending(path: "model.safetensors")
                try writeSafetensors(tensors, to: path)
                let checkpoint = try Checkpoint.open(path.path(percentEncoded: false))
                return try RecognisedModel(checkpoint, hints).description.variant
            }
        }
        #expect(throws: CheckpointError.self) { try variant("logits/cxa076r", ModelHints()) }
        #expect(try variant("logits/cxa076r", ModelHints(variant: "cxa076r")) == "cxa076r")
        #expect(try variant("logits/cxa076r", ModelHints(fallbackVariant: "cxa076r")) == "cxa076r")
        #expect(try variant("models/cxa076", ModelHints(fallbackVariant: "cxa076r")) == "cxa076")
        #expect(throws: CheckpointError.self) { try variant("models/cxa076", ModelHints(variant: "cxa076r")) }
    }

    /// A JSON file that is not a shard index is read as a config.json.
    ///
    /// Errors state the problem and its byte offset.
    @Test(
        arguments: [
            (
                #"{"model_type": "qwen3", "hidden_size": 1, "hidden_size": 2}"#,
                "an object has the key \"hidden_size\" twice", 43
            ),
            ("[1,2]", "config.json is not a JSON object", nil), (#"{"a": }"#, "the JSON is not valid", 6),
            ("\u{FEFF}{}", "the JSON is not valid", 0), (" \n{\"a\": \"\\u0000\"}", "a string has a NUL in it", 9),
        ] as [(String, String, Int?)])
    func saysWhatIsWrongWithAConfiguration(text: String, problem: String, offset: Int?) throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "config.json")
            try Data(text.utf8).write(to: path)
            let error = #expect(throws: CheckpointError.self) {
                _ = try ModelConfiguration(alone: path.path(percentEncoded: false))
            }
            #expect(error?.category == .malformed && error?.problem == problem && error?.offset == offset)
        }
    }

    @Test(arguments: [
        "safetensors/qwen3-sharded", "safetensors/qwen3-sharded/model.safetensors.index.json", "models/rwkv7.pth",
    ])
    func takesNoCheckpointForAConfiguration(path: String) throws {
        #expect(try ModelConfiguration(alone: Repository.fixture(path)) == nil)
    }

    /// Names and keys that differ only in Unicode normalisation remain distinct, in either order.
    @Test func keepsWhatDiffersByNormalisationAlone() throws {
        let (nfc, nfd) = ("caf\u{E9}", "cafe\u{301}")
        let extra = try [nfc, nfd].map { name in
            let found = try model(
                try recognize(try tensors("qwen3") + [nfc, nfd].map { ("model.layers.0.\($0)", [3]) } + [(name, [3])]))
            return found.findings.compactMap(\.tensor).map { Array($0.utf8) }
        }
        let names = ["model.layers.0.\(nfd)", "model.layers.0.\(nfc)"].map { Array($0.utf8) }
        #expect(extra == [[Array(nfc.utf8)] + names, [Array(nfd.utf8)] + names])
        let rotary = try #require(
            try model(
                try recognize(
                    try tensors("llama"),
                    configuration:
                        #"{"model_type": "llama", "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4, "\#(nfc)": 1, "\#(nfd)": 2}}"#
                )
            ).rotary)
        #expect(rotary.parameters.count == 3)
    }

    @Test func knowsAdapters() throws {
        func adapter(_ path: String) throws -> Adapter? {
            try Adapter(Checkpoint.open(Repository.fixture("models/" + path)))
        }
        let lora = try #require(try adapter("adapter-lora/adapter_model.safetensors"))
        #expect(lora.kind == .lora && lora.writer == .peft && lora.ranks == [4] && lora.alpha == 8)
        #expect(lora.targets == ["q_proj", "v_proj"] && lora.moduleCount == 8)
        let dora = try #require(try adapter("adapter-dora/adapter_model.safetensors"))
        #expect(dora.kind == .dora && dora.ranks == [3] && dora.targets == ["o_proj"])
        let miss = try #require(try adapter("adapter-miss/adapter_model.safetensors"))
        #expect(miss.kind == .bone && miss.ranks == [8] && miss.targets == ["down_proj", "k_proj"])
        let inside = try #require(try adapter("adapter-rwkvinside.pt"))
        #expect(inside.kind == .bone && inside.writer == .rwkvInside && inside.ranks == [4, 8])
        #expect(inside.targets == ["key", "receptance"] && inside.moduleCount == 4 && inside.alpha == nil)
        #expect(try adapter("qwen3") == nil)
    }
}
