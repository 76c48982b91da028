import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import TestSupport
import Testing

@Suite struct LayoutTests {
    /// Converts a model through several files and layouts, and returns the contents of the last result.
    private func convert(
        _ source: ConversionInput, through ways: [(layout: TensorLayout, name: String)], config: String? = nil
    ) throws -> [String: TensorContents] {
        try withTemporaryDirectory { directory in
            var source = source
            for (number, way) in ways.enumerated() {
                let target = directory.appending(path: "\(number)\(way.name)")
                let options: ConversionOptions =
                    switch way.name {
                    case "": .directory(target)
                    case ".pth": .file(target, .pyTorch)
                    default:
                        .file(
                            target, way.name.contains("pth") ? .pyTorch : .safetensors,
                            isCompressed: way.name.hasSuffix("zst"))
                    }
                try Conversion(of: source, options: options.with { $0.layout = way.layout }).run()
                source = try input(target.path(percentEncoded: false), config: way.name.isEmpty ? nil : config)
            }
            return try source.checkpoint.contents()
        }
    }

    @Test func carryRWKV7ThereAndBack() throws {
        let official = try input("models/rwkv7.pth")
        let fla = try input("models/rwkv7-fla")
        let used = try official.checkpoint.contents().filter {
            !["v0", "v1", "v2"].map { "blocks.0.att." + $0 }.contains($0.key)
        }
        #expect(try convert(official, through: [(.fla, "")]) == fla.checkpoint.contents())
        #expect(try convert(official, through: [(.fla, ""), (.official, ".pth")]) == used)
        #expect(try convert(fla, through: [(.official, ".pth"), (.fla, "")]) == fla.checkpoint.contents())
        #expect(
            try convert(fla, through: [(.official, ".safetensors.zst"), (.fla, ".pth.zst")])
                == fla.checkpoint.contents())
    }

    @Test(arguments: ["x052", "x060"])
    func carryEagleAndFinchThereAndBack(name: String) throws {
        let official = try input("eagle-finch/\(name).pth")
        let published = try input("eagle-finch/\(name)-hf")
        #expect(try convert(official, through: [(.huggingFace, "")]) == published.checkpoint.contents())
        #expect(try convert(published, through: [(.official, ".pth")]) == official.checkpoint.contents())
        try withTemporaryDirectory { directory in
            let options = ConversionOptions.directory(directory.appending(path: "x")).with { $0.layout = .huggingFace }
            let configuration = try #require(try Conversion(of: official, options: options).configuration)
            let (own, expected) = (try JSONValue(document: configuration), try #require(published.configuration).root)
            for key in [
                "architectures", "model_type", "hidden_size", "attention_hidden_size", "head_size", "vocab_size",
                "num_hidden_layers", "layer_norm_epsilon", "tie_word_embeddings", "torch_dtype",
            ] { #expect(own[key] == expected[key], "\(key)") }
            #expect(own["intermediate_size"] == .integer(160))
        }
    }

    @Test func carryFinchToFlashLinearAttentionAndBack() throws {
        let official = try input("eagle-finch/x060.pth")
        let (fla, published) = (try input("eagle-finch/x060-fla"), try input("eagle-finch/x060-hf"))
        #expect(try convert(official, through: [(.fla, "")]) == fla.checkpoint.contents())
        #expect(try convert(published, through: [(.fla, "")]) == fla.checkpoint.contents())
        #expect(try convert(fla, through: [(.official, ".pth")]) == official.checkpoint.contents())
        #expect(try convert(fla, through: [(.huggingFace, "")]) == published.checkpoint.contents())
        try withTemporaryDirectory { directory in
            let options = ConversionOptions.directory(directory.appending(path: "x")).with { $0.layout = .fla }
            let configuration = try #require(try Conversion(of: official, options: options).configuration)
            let (own, expected) = (try JSONValue(document: configuration), try #require(fla.configuration).root)
            guard case .object(let members) = own else { fatalError("config.json is not an object") }
            for (key, value) in members where key != "torch_dtype" { #expect(expected[key.text] == value, "\(key)") }
        }
    }

    /// Converts a changed Finch from flash-linear-attention's layout to the official one.
    private func convertFinch(_ change: (inout EditableModel) -> Void) throws {
        var model = try EditableModel(fixture: "eagle-finch/x060-fla")
        change(&model)
        try withTemporaryDirectory { directory in
            try model.write(to: directory)
            _ = try convert(try input(directory.path(percentEncoded: false)), through: [(.official, ".pth")])
        }
    }

    @Test func refuseFinchThatDoesNotFit() throws {
        let name = "model.layers.0.attn.x_bias"
        try convertFinch { _ in }
        for shape in [[5, 47], [48, 5], [240], [4, 48], [5, 0]] {
            let count = shape.reduce(1, *)
            let error = #expect(throws: CheckpointError.self) {
                try convertFinch { model in
                    model.shapes[name] = shape
                    model[name] = Array(model[name].prefix(count))
                }
            }
            #expect(error?.tensor == name && error?.found == "\(shape)", "\(String(describing: error))")
        }
        // The official layout has no config.json, so the epsilon of its norms is always 1e-5.
        for epsilon in [1e-6, 4e-5] {
            let error = #expect(throws: CheckpointError.self) { try convertFinch { $0.configure("norm_eps", epsilon) } }
            #expect(error?.category == .unsupported && error?.expected == "1e-05")
        }
    }

    @Test func joinVectorsThatAnAdapterReplaces() throws {
        try withTemporaryDirectory { directory in
            var adapter = try EditableModel(fixture: "eagle-finch/x060-fla")
            for name in adapter.names { adapter.remove(name) }
            let (name, numbers) = ("blocks.0.att.time_maa_k", [Float](repeating: 0.25, count: 48))
            adapter.add("base_model.model." + name, [1, 1, 48], numbers)
            adapter.add("base_model.model.blocks.0.att.receptance.lora_A.weight", [1, 48], numbers)
            adapter.add("base_model.model.blocks.0.att.receptance.lora_B.weight", [48, 1], numbers)
            try adapter.write(to: directory)
            let path = directory.path(percentEncoded: false)
            try Data(#"{"r": 1, "lora_alpha": 1, "peft_type": "LORA"}"#.utf8).write(
                to: directory.appending(path: "adapter_config.json"))
            try FileManager.default.removeItem(at: directory.appending(path: "config.json"))
            let source = try input("eagle-finch/x060.pth")
            func convert(to layout: TensorLayout, _ dtype: DType?) throws -> Checkpoint {
                let target = directory.appending(path: "\(layout.name).safetensors")
                let options = ConversionOptions.file(target, .safetensors).with {
                    $0.layout = layout
                    $0.dtype = dtype
                }
                try Conversion(of: source, adapter: Checkpoint.open(path), options: options).run()
                return try Checkpoint.open(target.path(percentEncoded: false))
            }
            // The adapter is F32, and the other vectors are BF16.
            #expect(throws: CheckpointError.self) { try convert(to: .fla, nil) }
            let joined = try convert(to: .fla, .f32).values("model.layers.0.attn.x_bias")
            #expect(joined[(2 * 48)..<(3 * 48)].allSatisfy { $0 == 0.25 })
            #expect(try convert(to: .official, .f32).values(name).allSatisfy { $0 == 0.25 })
        }
    }

    @Test func carryStudentsThereAndBack() throws {
        for name in ["cxa076", "cxa079", "hxa079"] {
            let whole = try input("models/\(name)")
            let contents = try whole.checkpoint.contents()
            let config = "models/\(name)/config.json"
            let infer = try convert(whole, through: [(.rwkvInfer, ".pth")], config: config)
            #expect(try infer == input("models/\(name).pth", config: config).checkpoint.contents())
            #expect(
                try convert(whole, through: [(.rwkvInfer, ".pth"), (.huggingFace, "")], config: config) == contents)
            #expect(
                try convert(whole, through: [(.rwkvInside, ".pth"), (.huggingFace, "")], config: config) == contents)
            #expect(
                try convert(
                    whole,
                    through: [(.rwkvInside, ".safetensors"), (.rwkvInfer, ".pth.zst"), (.huggingFace, ".safetensors")],
                    config: config) == contents)
        }
    }

    @Test func carryARWKVThereAndBack() throws {
        for (name, file) in [("arwkv", "training.pt"), ("arwkv-gate", "arwkv-gate.pth")] {
            let (whole, config) = (try input("arwkv/\(name)"), "arwkv/\(name)/config.json")
            let contents = try whole.checkpoint.contents()
            let layout = name == "arwkv" ? TensorLayout.rwkvInside : .rwkvInfer
            let other = try input("arwkv/\(name)/\(file)", config: config)
            // A training checkpoint has x_g although there is no gate.
            let used = try other.checkpoint.contents().filter { name != "arwkv" || !$0.key.hasSuffix(".x_g") }
            #expect(try convert(whole, through: [(layout, ".pth")], config: config) == used)
            #expect(
                try convert(other, through: [(.huggingFace, "")], config: config).filter {
                    !$0.key.hasSuffix("x_g") || name != "arwkv"
                } == contents)
            let ways = [
                (TensorLayout.rwkvInside, ".safetensors"), (.rwkvInfer, ".pth.zst"), (.huggingFace, ".safetensors"),
            ]
            #expect(try convert(whole, through: ways, config: config) == contents)
        }
    }

    /// A model's own class reads the config.json that a conversion writes.
    @Test(
        arguments: [
            ("arwkv/arwkv-gate/arwkv-gate.pth", "arwkv/arwkv-gate"), ("arwkv/arwkv/training.pt", "arwkv/arwkv"),
            ("radlads/rad-rwkv7", "radlads/rad-rwkv7"), ("radlads/rad-rwkv7-first", "radlads/rad-rwkv7-first"),
            ("radlads/rad-rwkv7-qwen3", "radlads/rad-rwkv7-qwen3"),
            ("radlads/rad-rwkv7-group-norm", "radlads/rad-rwkv7-group-norm"),
            ("radlads/rad-rwkv6", "radlads/rad-rwkv6"),
            ("radlads/rad-rwkv6-group-norm", "radlads/rad-rwkv6-group-norm"),
        ])
    func writesTheConfigurationOfTheClass(source: String, published: String) throws {
        try withTemporaryDirectory { directory in
            let options = ConversionOptions.directory(directory.appending(path: "x")).with {
                $0.layout = .huggingFace
                $0.dtype = .bf16
            }
            let source = try input(source, config: published + "/config.json")
            let own = try JSONValue(document: #require(try Conversion(of: source, options: options).configuration))
            guard case .object(var expected) = try #require(try input(published).configuration).root,
                case .object(var found) = own
            else { throw CheckpointError(.malformed, path: published, "not an object") }
            #expect(found["torch_dtype"] == .string("bfloat16"))
            for key: ByteString in ["torch_dtype", "rwkv_layers"] { (expected[key], found[key]) = (nil, nil) }
            for (key, value) in expected { #expect(found[key] == value, "\(key): \(String(describing: found[key]))") }
        }
    }

    @Test func sayWhatTheyDrop() throws {
        try withTemporaryDirectory { directory in
            let conversion = try Conversion(
                of: input("models/rwkv7.pth"),
                options: .directory(directory.appending(path: "x")).with { $0.layout = .fla })
            let dropped = conversion.fates[.source]?.filter {
                $0 == .dropped(reason: "the first time-mixing layer does not use residuals")
            }
            #expect(dropped?.count == 3)
            let configuration = try #require(conversion.configuration)
            let root = try JSONValue(document: configuration)
            #expect(
                root["fuse_norm"] == .bool(false) && root["num_heads"] == .integer(2)
                    && root["head_dim"] == .integer(32))
            #expect(root["v_low_rank_dim"] == .integer(4) && root["intermediate_size"] == .integer(192))
        }
    }

    /// A head that differs from the embedding is kept, even if config.json says that it is tied.
    @Test func keepHeadsThatDiffer() throws {
        try withTemporaryDirectory { directory in
            try writeConfiguration(of: "models/hxa079", to: directory, "tie_word_embeddings", "true")
            let whole = try Checkpoint.open(Repository.fixture("models/hxa079.pth"))
            try whole.write(to: directory.appending(path: "flat.safetensors"))
            let source = try input(directory.path(percentEncoded: false) + "/flat.safetensors")
            #expect(source.model?.hasTiedHead == true)
            let made = try Conversion(
                of: source, options: .directory(directory.appending(path: "x")).with { $0.layout = .huggingFace }
            ).run()
            #expect(try made.values("lm_head.weight") == whole.values("head.weight"))
            #expect(try ModelConfiguration(beside: made)?.root["tie_word_embeddings"] == .bool(false))
        }
    }

    /// A tensor whose shape contradicts those of all other tensors is rejected.
    @Test func refuseOtherSizes() throws {
        try withTemporaryDirectory { directory in
            let whole = try Checkpoint.open(Repository.fixture("models/hxa079"))
            let name = "model.layers.1.self_attn.w1"
            let tensors = try whole.tensors.map { tensor in
                let shape = tensor.name == name ? tensor.shape.reversed() : tensor.shape
                return (tensor.name, Array(shape), try whole.values(tensor.name).map { Float($0) })
            }
            try writeFloats(tensors, to: directory.appending(path: "model.safetensors"))
            let config = "models/hxa079/config.json"
            let error = failure {
                _ = try Conversion(
                    of: input(directory.path(percentEncoded: false), config: config),
                    options: .file(directory.appending(path: "x.pth"), .pyTorch).with { $0.layout = .rwkvInfer })
            }
            #expect(error?.tensor == name && error?.expected == "[32, 24]" && error?.found == "[24, 32]")
        }
    }

    /// A config.json that contradicts the tensors is rejected.
    @Test func refuseContradictions() throws {
        try withTemporaryDirectory { directory in
            try writeConfiguration(of: "models/hxa079", to: directory, "num_hidden_layers", "5")
            let whole = try Checkpoint.open(Repository.fixture("models/hxa079"))
            try whole.write(to: directory.appending(path: "model.safetensors"))
            let error = failure {
                _ = try Conversion(
                    of: input(directory.path(percentEncoded: false)),
                    options: .file(directory.appending(path: "x.pth"), .pyTorch).with { $0.layout = .rwkvInfer })
            }
            #expect(error?.problem.contains("num_hidden_layers to 5") == true)
        }
    }

    /// In another layout, a tied head shares its bytes with the embedding in a PyTorch file, and is a separate tensor
    /// in a safetensors file.
    ///
    /// Both are tied again after conversion back.
    @Test func keepHeadsTied() throws {
        let teacher = try input("models/qwen2")
        try withTemporaryDirectory { directory in
            let student = directory.appending(path: "student")
            try Conversion(of: teacher, plan: plan(for: teacher, .cxa079, keeping: [1]), options: .directory(student))
                .run()
            let made = try input(student.path(percentEncoded: false))
            #expect(made.checkpoint.tensor(named: "lm_head.weight") == nil)
            for (name, options) in [
                ("shared.pth", ConversionOptions.file(directory.appending(path: "shared.pth"), .pyTorch)),
                ("own.safetensors", .file(directory.appending(path: "own.safetensors"), .safetensors)),
            ] {
                let flat = try Conversion(of: made, options: options.with { $0.layout = .rwkvInfer }).run()
                #expect(try flat.values("head.weight") == flat.values("emb.weight"))
                #expect(flat.tiedTensors.count == (name == "shared.pth" ? 1 : 0))
                let configuration = try ModelConfiguration(path: student.path(percentEncoded: false) + "/config.json")
                let checkpoint = try Checkpoint.open(options.destination.path)
                guard case .model(let model) = try ModelRecognition.recognize(checkpoint, configuration: configuration)
                else {
                    throw CheckpointError(.malformed, path: name, "not recognised")
                }
                let back = directory.appending(path: "back of " + name)
                try Conversion(
                    of: ConversionInput(checkpoint, model: model, configuration: configuration),
                    options: .directory(back).with { $0.layout = .huggingFace }
                ).run()
                #expect(try Checkpoint.open(back.path(percentEncoded: false)).contents() == made.checkpoint.contents())
                let root = try ModelConfiguration(path: back.path(percentEncoded: false) + "/config.json").root
                #expect(root["tie_word_embeddings"] == .bool(true))
            }
        }
    }
}
