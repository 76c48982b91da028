import Foundation
import TestSupport
import Testing

/// Tests of documents that contain a string with many combining marks.
///
/// Swift takes minutes to compare such strings, because it sorts the marks. If the tool compared them, the watchdog
/// would kill it.
@Suite struct CombiningMarksTests {
    private let marks = "a" + String(repeating: "\u{301}\u{316}", count: 150_000)

    private func object(_ path: URL) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as? [String: Any])
    }

    private func write(_ object: [String: Any], to path: URL) throws {
        try JSONSerialization.data(withJSONObject: object).write(to: path)
    }

    private func expect(_ arguments: [String], in directory: URL, says words: String) throws {
        let output = try CommandLineTool.run(arguments, in: directory)
        #expect(output.status == 65 && output.out.isEmpty && output.err.contains(words), "\(arguments)")
        #expect(output.err.utf8.split(separator: UInt8(ascii: "\n")).count == 1)
    }

    @Test func endConfigurationsAtOnce() throws {
        let model = URL(filePath: Repository.fixture("logits/qwen3"))
        let configuration = try object(model.appending(path: "config.json"))
        for (key, value, words) in [
            ("model_type", marks, "the family"), ("rwkv_architecture", marks, "the family"),
            ("hidden_act", marks, "hidden_act"), ("layer_types", [marks], "layer_types"),
            ("rope_scaling", ["rope_type": marks], "rope_type"), ("first_values", marks, "first_values"),
            ("quantization_config", ["quant_method": marks], "quantised"),
        ] as [(String, Any, String)] {
            try withTemporaryDirectory { directory in
                try FileManager.default.copyItem(
                    at: model.appending(path: "model.safetensors"),
                    to: directory.appending(path: "model.safetensors"))
                var changed = configuration
                changed[key] = value
                try write(changed, to: directory.appending(path: "config.json"))
                let inspected = try CommandLineTool.run(["inspect", "."], in: directory)
                #expect(inspected.status == 0, "\(key)")
                try expect(["plan", ".", "--target", "hxa079", "--gqa-layers", "1"], in: directory, says: words)
            }
        }
    }

    @Test func endPlansAtOnce() throws {
        try withTemporaryDirectory { directory in
            let model = Repository.fixture("logits/qwen3")
            let made = try CommandLineTool.run(
                ["plan", model, "--target", "hxa079", "--gqa-layers", "1", "-o", "plan.json"], in: directory)
            #expect(made.status == 0, "\(made.err)")
            let path = directory.appending(path: "plan.json")
            let plan = try object(path)
            for key in ["schema", "target", "layers", "initialisers"] {
                var changed = plan
                if var layers = plan[key] as? [[String: Any]] {
                    layers[0]["kind"] = marks
                    changed[key] = layers
                } else if var members = plan[key] as? [String: Any] {
                    for name in members.keys { members[name] = ["kind": marks] }
                    changed[key] = members
                } else {
                    changed[key] = marks
                }
                try write(changed, to: path)
                try expect(["convert", model, "--plan", "plan.json", "-o", "made"], in: directory, says: "plan.json")
            }
        }
    }

    @Test func endManifestsAtOnce() throws {
        try withTemporaryDirectory { directory in
            let model = Repository.fixture("logits/qwen3")
            let made = try CommandLineTool.run(["convert", model, "-o", "copy"], in: directory)
            #expect(made.status == 0, "\(made.err)")
            let path = directory.appending(path: "copy/conversion.json")
            let manifest = try object(path)
            for (key, member, words) in [
                ("schema", "", "not a conversion manifest"),
                ("tensors", "origin", "is unknown or not among the inputs"), ("tensors", "sha256", "the SHA-256 of"),
                ("tensors", "dtype", "the dtype or shape of"), ("inputs", "fate", "is unknown or incomplete"),
            ] {
                var changed = manifest
                if var entries = manifest[key] as? [[String: Any]] {
                    entries[0][member] = marks
                    changed[key] = entries
                } else {
                    changed[key] = marks
                }
                try write(changed, to: path)
                let output = try CommandLineTool.run(["verify", model, "copy"], in: directory)
                #expect(output.status == 1 && output.out.contains(words), "\(key) \(member): \(output.status)")
            }
        }
    }
}
