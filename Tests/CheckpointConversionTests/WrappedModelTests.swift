import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import TestSupport
import Testing

/// Tests for models whose tensor names have prefixes or whose tensors contain several matrices.
@Suite struct WrappedModelTests {
    /// Writes a copy of a fixture with different tensor names and a different dtype.
    private func write(
        _ fixture: String, as dtype: DType? = nil, to directory: URL, renaming rename: (String) -> String = { $0 }
    ) throws {
        let made = try Conversion(
            of: input(fixture), options: .directory(directory.appending(path: "plain")).with { $0.dtype = dtype }
        ).run()
        try made.write(to: directory.appending(path: "model.safetensors"), renaming: rename)
        try FileManager.default.copyItem(
            atPath: Repository.fixture(fixture + "/config.json"),
            toPath: directory.appending(path: "config.json").path)
    }

    @Test func aLayoutThatIsAskedForHasNoPrefixes() throws {
        try withTemporaryDirectory { directory in
            try write("decoders/phi3", to: directory) { "module._orig_mod." + $0 }
            let source = try input(directory.path)
            let plain = try input("decoders/phi3").checkpoint
            let kept = try Conversion(of: source, options: .directory(directory.appending(path: "kept"))).run()
            #expect(kept.tensors.allSatisfy { $0.name.hasPrefix("module._orig_mod.") })
            let options = ConversionOptions.directory(directory.appending(path: "named")).with {
                $0.layout = .huggingFace
            }
            #expect(try Conversion(of: source, options: options).run().contents() == plain.contents())
        }
    }

    @Test func anAdapterOfATensorOfSeveralMatricesIsMerged() throws {
        let weight = "model.layers.1.mlp.gate_up_proj"
        func merged(_ source: ConversionInput, in directory: URL) throws -> [Double] {
            let shape = try #require(source.checkpoint.tensors.first { $0.name.contains(weight) }).shape
            func part(_ name: String, _ shape: [Int]) -> (name: String, dtype: DType, shape: [Int], data: Data) {
                let values = (0..<shape[0] * shape[1]).map { Float($0 % 7) / 8 }
                return (name, .f32, shape, values.withUnsafeBytes { Data($0) })
            }
            let adapter = directory.appending(path: "adapter_model.safetensors")
            try writeSafetensors(
                [
                    part("base_model.model.\(weight).lora_A.weight", [1, shape[1]]),
                    part("base_model.model.\(weight).lora_B.weight", [shape[0], 1]),
                ], to: adapter)
            try Data(#"{"peft_type": "LORA", "lora_alpha": 1}"#.utf8)
                .write(to: directory.appending(path: "adapter_config.json"))
            let made = try Conversion(
                of: source, adapter: try Checkpoint.open(adapter.path),
                options: .directory(directory.appending(path: "merged"))
            ).run()
            return try made.values(try #require(made.tensors.first { $0.name.contains(weight) }).name)
        }
        try withTemporaryDirectory { directory in
            let plain = try input("decoders/phi3")
            let expected = try merged(plain, in: directory)
            #expect(try expected != plain.checkpoint.values(weight + ".weight"))
            try FileManager.default.removeItem(at: directory.appending(path: "merged"))
            try write("decoders/phi3", to: directory) { "module." + $0 }
            #expect(try merged(input(directory.path), in: directory) == expected)
        }
    }

    /// All matrices in a fused tensor must have the same dtype.
    @Test func aTensorOfSeveralMatricesHasOneType() throws {
        try withTemporaryDirectory { directory in
            func options(_ roles: [TensorRole]) -> ConversionOptions {
                .directory(directory.appending(path: "made\(roles.count)")).with {
                    for role in roles { $0.roleDTypes[role] = .some(.bf16) }
                }
            }
            let source = try input("decoders/phi3")
            let refused = failure {
                _ = try Conversion(of: source, options: options([.keyWeight]))
            }
            #expect(refused?.category == .unsupported && refused?.tensor?.hasSuffix("qkv_proj.weight") == true)
            let made = try Conversion(of: source, options: options([.queryWeight, .keyWeight, .valueWeight])).run()
            #expect(made.tensors.allSatisfy { ($0.dtype == .bf16) == $0.name.hasSuffix("qkv_proj.weight") })
        }
    }

    /// If w is BF16, 1 + w has more digits than BF16 can represent, so the tensor becomes F32 unless a dtype is
    /// requested.
    @Test func onePlusWKeepsItsDigits() throws {
        try withTemporaryDirectory { directory in
            try write("decoders/gemma3", as: .bf16, to: directory)
            let source = try input(directory.path)
            let plan = try plan(for: source, .cxa079, keeping: [2])
            func student(_ name: String, _ dtype: DType?) throws -> Checkpoint {
                try Conversion(
                    of: source, plan: plan,
                    options: .directory(directory.appending(path: name)).with { $0.dtype = dtype }
                ).run()
            }
            let name = "model.layers.1.self_attn."
            let (own, narrow) = try (student("own", nil), student("narrow", .bf16))
            let w = try source.checkpoint.values(name + "k_norm.weight")
            #expect(try own.values(name + "k_norm.weight") == w.map { Double(Float($0) + 1) })
            for (checkpoint, dtype) in [(own, DType.f32), (narrow, .bf16)] {
                #expect(checkpoint.tensor(named: name + "k_norm.weight")?.dtype == dtype)
                #expect(checkpoint.tensor(named: name + "key.weight")?.dtype == .bf16)
            }
        }
    }

    /// config.json records the dtype of the entire model, outside `text_config`.
    @Test func aWrappedModelIsOfTheTypeThatIsAskedFor() throws {
        try withTemporaryDirectory { directory in
            let source = try input("decoders/gemma3-wrapped")
            let options = ConversionOptions.directory(directory.appending(path: "made")).with {
                $0.dtype = .f16
                $0.mayBeUnused = { $0.hasPrefix("vision_tower.") || $0.hasPrefix("multi_modal_projector.") }
            }
            let made = try Conversion(of: source, options: options).run()
            let configuration = try #require(try ModelConfiguration(beside: made))
            let whole = try #require(
                try JSONSerialization.jsonObject(
                    with: Data(contentsOf: URL(filePath: configuration.path))) as? [String: Any])
            #expect((whole["dtype"] ?? whole["torch_dtype"]) as? String == "float16")
            #expect(whole["text_config"] != nil && whole["vision_config"] != nil)
            #expect(configuration.root["eos_token_id"] != nil)
        }
    }
}
