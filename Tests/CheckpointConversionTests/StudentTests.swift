import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import Foundation
import LayerPlanning
import ModelFamilies
import TestSupport
import Testing

@Suite struct StudentTests {
    private struct Expected: Decodable {
        let teacher: String
        let target: String
        let attention: [Int]
        let ranks: [String: Int]
        let tensors: [String: [Int]]
    }

    /// Students have the tensor names and shapes that an independent script lists.
    ///
    /// The tensors that they take from their teachers are byte-identical.
    @Test func haveNamesShapesAndTheTeachersBytes() throws {
        let all = try Repository.json("conversions/students.json", as: [String: Expected].self)
        #expect(all.count == 20)
        for (name, expected) in all {
            let teacher = try input("models/\(expected.teacher)")
            let target = try #require(ArchitectureRegistry.target(named: expected.target))
            let plan = try plan(for: teacher, target, keeping: Set(expected.attention))
            try withTemporaryDirectory { directory in
                let student = try Conversion(
                    of: teacher, plan: plan, options: .directory(directory.appending(path: "student"))
                ).run()
                let found = try student.contents()
                #expect(found.mapValues(\.shape) == expected.tensors, "\(name)")
                let old = try teacher.checkpoint.contents()
                let renamed = [
                    "receptance": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj", "r_norm": "q_norm",
                ]
                for (tensor, contents) in found {
                    let parts = tensor.split(separator: ".").map { renamed[String($0)] ?? String($0) }
                    guard let source = old[parts.joined(separator: ".")] else { continue }
                    #expect(source == contents, "\(name) \(tensor)")
                }
                try checkConfiguration(student, expected, old)
            }
        }
    }

    /// Checks a student's config.json and the model that is recognised from it.
    private func checkConfiguration(
        _ student: Checkpoint, _ expected: Expected, _ teacher: [String: TensorContents]
    ) throws {
        let configuration = try #require(try ModelConfiguration(beside: student))
        let root = configuration.root
        let variant = expected.attention.isEmpty ? expected.target : expected.target.replacing("cxa079", with: "hxa079")
        #expect(root["rwkv_architecture"] == .string(ByteString(variant)) && root["model_type"] == nil)
        #expect(root["transformer_layers"]?.array == expected.attention.map { .integer($0) })
        let count = try #require(root["num_hidden_layers"]?.integer)
        let others = (0..<count).filter { !expected.attention.contains($0) }
        #expect(root["rwkv_layers"]?.array == others.map { .integer($0) })
        for (letter, key) in [
            ("w", "decay"), ("a", "iclr"), ("v", "value_residual_mix"), ("k", "key_residual_mix"), ("g", "gate"),
        ] {
            #expect(root["lora_rank_" + key]?.integer == expected.ranks[letter])
        }
        #expect(root["enable_qk_norm"]?.bool == (expected.target == "cxa079"))
        #expect(root["nope_in_transformer"]?.bool == (expected.target == "cxa079"))
        #expect(root["attention_bias"]?.bool == expected.teacher.hasPrefix("qwen2"))
        #expect(root["tie_word_embeddings"]?.bool == (teacher["lm_head.weight"] == nil))
        #expect(root["rope_theta"]?.double != nil && root["rope_parameters"] == nil)
        #expect((root["rope_scaling"] == .null) == (expected.teacher != "llama"))
        guard case .model(let model) = try ModelRecognition.recognize(student, configuration: configuration) else {
            Issue.record("a student is not recognised")
            return
        }
        #expect(model.variant == variant && model.findings.isEmpty && model.unknown.isEmpty, "\(model.findings)")
    }

    @Test func keepEverythingWhereAllLayersStayAttention() throws {
        for (name, target) in [
            ("llama", Architecture.cxa076), ("qwen2", .cxa079), ("qwen3", .cxa079), ("reka", .cxa079),
        ] {
            let teacher = try input("models/\(name)")
            let model = try #require(teacher.model)
            let plan = try plan(for: teacher, target, keeping: Set(model.layers.indices))
            try withTemporaryDirectory { directory in
                let student = try Conversion(
                    of: teacher, plan: plan, options: .directory(directory.appending(path: "s"))
                ).run()
                #expect(try student.contents() == teacher.checkpoint.contents())
            }
        }
    }

    @Test func takeTheirTeachersAttentionBack() throws {
        let teacher = try input("models/qwen3")
        try withTemporaryDirectory { directory in
            let first = directory.appending(path: "first")
            let path = directory.appending(path: "plan.json").path(percentEncoded: false)
            // Use projection factors, so that restored tensors differ from the student's.
            try write(try plan(for: teacher, .cxa079, keeping: []), to: path) {
                $0.replacing("\"receptance\": 1.0", with: "\"receptance\": 0.5").replacing(
                    "\"value\": 1.0", with: "\"value\": 0.3")
            }
            let model = try #require(teacher.model)
            let student = try Conversion(
                of: teacher, plan: LayerPlan(contentsOf: path, teacher: model), options: .directory(first)
            ).run()
            let (old, before) = try (teacher.checkpoint.contents(), student.contents())
            let receptance = try student.values("model.layers.0.self_attn.receptance.weight")
            let queries = try teacher.checkpoint.values("model.layers.0.self_attn.q_proj.weight")
            #expect(receptance == queries.map { $0 / 2 })
            let values = try student.values("model.layers.0.self_attn.value.weight")
            let teachers = try teacher.checkpoint.values("model.layers.0.self_attn.v_proj.weight")
            for (value, teachers) in zip(values, teachers) {
                // The value is multiplied in fp32 and rounded once.
                let bits = (Float(teachers) * 0.3).bitPattern
                #expect(Float(value).bitPattern == (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
            }

            let hybrid = try Conversion(
                of: input(first.path(percentEncoded: false)), teacher: teacher,
                plan: plan(for: teacher, .cxa079, keeping: [0, 2]),
                options: .directory(directory.appending(path: "second"))
            ).run()
            let after = try hybrid.contents()
            for (name, contents) in after {
                let isRestored = name.contains(".0.self_attn.") || name.contains(".2.self_attn.")
                #expect(contents == (isRestored ? old[name] : before[name]), "\(name)")
            }
            #expect(after.keys.filter { $0.contains(".2.self_attn.") }.count == 6)
            guard
                case .model(let model) = try ModelRecognition.recognize(
                    hybrid, configuration: ModelConfiguration(beside: hybrid))
            else { throw CheckpointError(.malformed, path: "", "not recognised") }
            #expect(
                model.variant == "hxa079" && model.kinds == [.gqa, .rwkv7, .gqa, .rwkv7] && model.findings.isEmpty)

            // A layer that is already attention also gets the teacher's tensors.
            let trained = directory.appending(path: "trained")
            try FileManager.default.createDirectory(at: trained, withIntermediateDirectories: true)
            try hybrid.write(
                to: trained.appending(path: "model.safetensors"), changing: ["model.layers.0.self_attn.q_proj.weight"])
            try FileManager.default.copyItem(
                at: directory.appending(path: "second/config.json"), to: trained.appending(path: "config.json"))
            let again = try Conversion(
                of: input(trained.path(percentEncoded: false)), teacher: teacher,
                plan: plan(for: teacher, .cxa079, keeping: [0, 1, 2]),
                options: .directory(directory.appending(path: "again"))
            ).run()
            #expect(
                try again.contents()["model.layers.0.self_attn.q_proj.weight"]
                    == after["model.layers.0.self_attn.q_proj.weight"])

            // An attention layer cannot become time mixing again.
            let error = failure {
                _ = try Conversion(
                    of: input(directory.appending(path: "second").path(percentEncoded: false)), teacher: teacher,
                    plan: plan(for: teacher, .cxa079, keeping: [2]),
                    options: .directory(directory.appending(path: "third")))
            }
            #expect(error?.problem == "layer 0 is an attention layer, but the plan has time mixing there")
        }
    }

    @Test func areWholeFromWhatWasTrained() throws {
        let teacher = try input("conversions/training/teacher")
        let whole = try input("models/hxa079").checkpoint.contents()
        for path in ["models/hxa079-training.pt", "conversions/training/frozen.pt"] {
            try withTemporaryDirectory { directory in
                let conversion = try Conversion(
                    of: input(path, config: "conversions/training/teacher/config.json"), teacher: teacher,
                    options: .directory(directory.appending(path: "student")))
                let student = try conversion.run()
                #expect(try student.contents() == whole, "\(path)")
                #expect(try ModelConfiguration(beside: student)?.root["transformer_layers"] == .array([.integer(2)]))
            }
        }
        // Without a teacher, the conversion fails.
        let error = failure {
            _ = try Conversion(
                of: input("conversions/training/frozen.pt", config: "conversions/training/teacher/config.json"),
                options: .directory(URL(filePath: "/nonexistent/x")).with { $0.layout = .huggingFace })
        }
        #expect(error?.advice == "--teacher provides the tensors that were not trained")
    }

    /// A teacher, a student and a plan that do not belong together are rejected.
    @Test func areHeldAgainstTheirTeacherAndPlan() throws {
        let teacher = try input("models/qwen3")
        try withTemporaryDirectory { directory in
            let student = directory.appending(path: "student")
            try Conversion(of: teacher, plan: plan(for: teacher, .cxa079, keeping: []), options: .directory(student))
                .run()
            func restore(_ student: URL, _ teacher: ConversionInput) -> String? {
                failure {
                    _ = try Conversion(
                        of: input(student.path(percentEncoded: false)), teacher: teacher,
                        plan: plan(for: teacher, .cxa079, keeping: [1]),
                        options: .directory(directory.appending(path: "x")))
                }?.reason
            }
            #expect(restore(student, teacher) == nil)
            for (key, value, problem) in [
                ("rms_norm_eps", "0.001", "the norm epsilon differs from that of "),
                ("rope_theta", "5", "the rotary embedding differs from that of "),
                (
                    "first_values", "\"layer_0\"",
                    "the plan sets first_values to \"first_rwkv_layer\", but the student was trained with another value"
                ),
            ] {
                let changed = directory.appending(path: key)
                try FileManager.default.copyItem(at: student, to: changed)
                let config = changed.appending(path: "config.json")
                let text = try String(contentsOf: config, encoding: .utf8).split(separator: "\n").map {
                    $0.contains("\"\(key)\":") ? "  \"\(key)\": \(value)," : $0
                }.joined(separator: "\n")
                try text.write(to: config, atomically: false, encoding: .utf8)
                #expect(restore(changed, teacher)?.hasPrefix(problem) == true, "\(restore(changed, teacher) ?? "")")
            }
            // The other teacher has a different width.
            let other = try input("models/reka")
            let error = failure {
                _ = try Conversion(
                    of: input(student.path(percentEncoded: false)), teacher: other,
                    plan: plan(for: other, .cxa079, keeping: []), options: .directory(directory.appending(path: "x")))
            }
            #expect(error?.problem.contains("differs from that of") == true)
        }
    }

    /// The teacher's attention can be restored in students of RADLADS, whose config.json describes it in full.
    @Test("regain attention and keep its RoPE switch", arguments: ["rad-rwkv7", "rad-rwkv6"], [true, false])
    func areRestored(_ name: String, usesRoPE: Bool) throws {
        let (teacher, target) = (try input("models/qwen3"), try #require(ArchitectureRegistry.target(named: name)))
        let description = try #require(teacher.model)
        let last = description.layers.count - 1
        func choose(_ layers: Set<Int>, _ usesRoPE: Bool) -> LayerPlan? {
            LayerPlan(
                of: description, target: target, LayerSelection(layers, reason: "test"), attentionUsesRoPE: usesRoPE,
                seed: 0)
        }
        func check(_ restored: ModelDescription, attention: [Int], _ usesRoPE: Bool) {
            #expect(restored.findings.isEmpty && restored.unknown.isEmpty, "\(restored.findings)")
            #expect(restored.kinds.indices.filter { restored.kinds[$0].hasCache } == attention)
            #expect(restored.attentionUsesRoPE == usesRoPE)
            #expect(attention.allSatisfy { (restored.layers[$0].rotation != nil) == usesRoPE })
        }
        try withTemporaryDirectory { directory in
            let student = directory.appending(path: "student")
            try Conversion(of: teacher, plan: plan(for: teacher, target, keeping: []), options: .directory(student))
                .run()
            for layer in [1, last] {
                let path = directory.appending(path: "restored \(layer)")
                try Conversion(
                    of: input(student.path(percentEncoded: false)), teacher: teacher,
                    plan: choose([layer], usesRoPE), options: .directory(path)
                ).run()
                let restored = try #require(try input(path.path(percentEncoded: false)).model)
                check(restored, attention: [layer], usesRoPE)
                // The keys of the first choice do not survive the second.
                let both = directory.appending(path: "both \(layer)")
                try Conversion(
                    of: input(path.path(percentEncoded: false)), teacher: teacher,
                    plan: choose([0, layer], !usesRoPE), options: .directory(both)
                ).run()
                let again = try #require(try input(both.path(percentEncoded: false)).model)
                check(again, attention: [0, layer], !usesRoPE)
            }
        }
    }

    /// Only `--variant` tells two variants apart, so the output names the one that the user named.
    @Test(arguments: [TensorLayout.huggingFace, .rwkvInfer])
    func keepTheNamedVariant(_ layout: TensorLayout) throws {
        let path = Repository.fixture("arwkv/arwkv-gate")
        func read(_ path: String, as variant: String) throws -> ConversionInput {
            try ConversionInput(
                RecognisedModel(path: path, .init(variant: variant), temporaryDirectory: NSTemporaryDirectory()))
        }
        try withTemporaryDirectory { directory in
            let options = ConversionOptions.directory(directory.appending(path: "student")).with { $0.layout = layout }
            let student = try Conversion(of: read(path, as: "arwkv-1g"), options: options).run()
            #expect(try ModelConfiguration(beside: student)?.root["rwkv_architecture"] == .string("arwkv-1g"))
            #expect(
                try input(directory.appending(path: "student").path(percentEncoded: false)).model?.variant == "arwkv-1g"
            )
            let other = directory.appending(path: "other")
            let back = ConversionOptions.directory(other).with { $0.layout = .huggingFace }
            try Conversion(of: read(options.destination.path, as: "arwkv"), options: back).run()
            #expect(try input(other.path(percentEncoded: false)).model?.variant == "arwkv")
        }
    }

    /// A head that differs from the embedding is rejected if config.json says that the two are tied.
    @Test func areNotMadeOfTwoHeads() throws {
        try withTemporaryDirectory { directory in
            try writeConfiguration(of: "models/qwen3", to: directory, "tie_word_embeddings", "true")
            try Checkpoint.open(Repository.fixture("models/qwen3")).write(
                to: directory.appending(path: "model.safetensors"))
            let teacher = try input(directory.path(percentEncoded: false))
            let error = failure {
                _ = try Conversion(
                    of: teacher, plan: plan(for: teacher, .cxa079, keeping: [1]),
                    options: .directory(directory.appending(path: "x")))
            }
            #expect(error?.problem == "config.json ties the embeddings, but the checkpoint has a head that differs")
        }
    }

    /// If the teacher's head is tied and the student's embedding has been trained, the head keeps the teacher's values.
    @Test func keepTheirTeachersHead() throws {
        let teacher = try Checkpoint.open(Repository.fixture("conversions/training/teacher"))
        let trained = try Checkpoint.open(Repository.fixture("conversions/training/frozen.pt"))
        try withTemporaryDirectory { directory in
            try writeConfiguration(
                of: "conversions/training/teacher", to: directory, "tie_word_embeddings", "true")
            try teacher.write(to: directory.appending(path: "model.safetensors"), without: ["lm_head.weight"])
            let tied = try input(directory.path(percentEncoded: false))
            for (name, changed) in [("same", Set<String>()), ("other", ["model.model.embed_tokens.weight"])] {
                let source = directory.appending(path: name + ".safetensors")
                try trained.write(to: source, changing: changed)
                let student = try Conversion(
                    of: input(source.path(percentEncoded: false)), teacher: tied,
                    options: .directory(directory.appending(path: name))
                ).run()
                let root = try ModelConfiguration(beside: student)?.root
                #expect(root?["tie_word_embeddings"] == .bool(name == "same"))
                guard name == "other" else {
                    #expect(student.tensor(named: "lm_head.weight") == nil)
                    continue
                }
                #expect(try student.values("lm_head.weight") == teacher.values("model.embed_tokens.weight"))
                #expect(try student.values("lm_head.weight") != student.values("model.embed_tokens.weight"))
            }
        }
    }

    @Test func areTheSameHoweverOftenAndOnHoweverManyThreads() throws {
        let teacher = try input("models/qwen3")
        try withTemporaryDirectory { directory in
            var files: [Data] = []
            for (number, seed) in [(0, 7), (1, 7), (4, 7), (4, 8)].enumerated() {
                let target = directory.appending(path: "\(number)")
                try Conversion(
                    of: teacher, plan: plan(for: teacher, .cxa079, keeping: [1], seed: seed.1),
                    options: .directory(target)
                ).run(threads: max(1, seed.0))
                files.append(try Data(contentsOf: target.appending(path: "model.safetensors")))
                if number > 0, number < 3 {
                    let names = ["conversion.json", "config.json"]
                    for name in names {
                        #expect(
                            try Data(contentsOf: target.appending(path: name))
                                == Data(contentsOf: directory.appending(path: "0").appending(path: name)))
                    }
                }
            }
            #expect(files[0] == files[1] && files[0] == files[2] && files[0] != files[3])
        }
    }

    /// Writes a plan after changing its text.
    private func write(_ plan: LayerPlan, to path: String, _ change: (String) -> String) throws {
        var bytes: [UInt8] = []
        try withoutActuallyEscaping({ bytes += $0 }) { append in
            try plan.writeJSON(to: ByteOutput(to: append), context: 1024)
        }
        let text = String(decoding: bytes, as: UTF8.self)
        let changed = change(text)
        #expect(changed != text)
        try changed.write(toFile: path, atomically: false, encoding: .utf8)
    }
}
