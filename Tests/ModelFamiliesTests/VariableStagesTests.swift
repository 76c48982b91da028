import Bytes
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import TestSupport
import Testing

extension ModelDescription {
    fileprivate var timeMix7: TimeMix7? {
        if case .rwkv7(let stages)? = architecture.timeMix { stages } else { nil }
    }
}

/// Tests of families whose stages depend on tensors and on switches in config.json.
struct VariableStagesTests {
    /// Returns the description of a fixture's tensors with a changed configuration, or without one.
    private func describe(
        _ fixture: String, _ changes: [ByteString: JSONValue]?, variant: String? = nil
    ) throws -> ModelDescription {
        let path = Repository.fixture(fixture)
        var configuration: ModelConfiguration?
        if let changes, case .object(let root) = try ModelConfiguration(path: path + "/config.json").root {
            let changed = root.merging(changes) { $1 }
            configuration = ModelConfiguration(path: "config.json", root: .object(changed))
        }
        let recognition = try ModelRecognition.recognize(
            Checkpoint.open(path), configuration: configuration, variant: variant)
        guard case .model(let description)? = recognition else {
            throw CheckpointError(.unsupported, path: path, "not recognised")
        }
        return description
    }

    @Test func readsTheSwitchesOfRADLADSAndARWKV() throws {
        let hybrid = try describe("radlads/rad-rwkv7", [:])
        #expect(hybrid.findings.isEmpty && hybrid.unknown.isEmpty && hybrid.variant == "rad-rwkv7")
        #expect(hybrid.kinds == [.rwkv7, .rwkv7, .rwkv7, .gqa])
        for name in [
            "radlads/rad-rwkv7-group-norm", "radlads/rad-rwkv7-qwen3", "radlads/rad-rwkv7-qwen3-unbalanced",
            "radlads/rad-rwkv7-first", "radlads/rad-rwkv6", "radlads/rad-rwkv6-group-norm", "arwkv/arwkv",
            "arwkv/arwkv-gate",
        ] {
            let found = try describe(name, [:])
            #expect(found.findings.isEmpty && found.unknown.isEmpty, "\(name) \(found.findings)")
        }
        // Without config.json, the tensors show all stages except those of these keys.
        let seven = try describe("radlads/rad-rwkv7-group-norm", nil)
        #expect(seven.unknown.starts(with: ["rms_norm_eps", "use_rope", "balance_state"]))
        #expect(seven.timeMix7?.outputNorm == .groupNorm(.ofHeadSize) && seven.timeMix7?.gate == .sigmoidProjection)
        #expect(seven.dimensions[.headSize] == 16)
        let six = try describe("radlads/rad-rwkv6", nil)
        #expect(six.unknown.contains("head size") && six.findings.isEmpty)
        #expect(try describe("arwkv/arwkv-gate", nil).unknown == ["rms_norm_eps", "sliding_window"])
        #expect(try describe("arwkv/arwkv", nil).timeMix7?.gate == TimeMixSpec.Gate.none)
        #expect(try describe("arwkv/arwkv-gate", nil, variant: "arwkv-1g").timeMix7?.gate == .onePlusLowRank)
    }

    /// A teacher's config.json does not set the stages that the tensors do not show.
    @Test func doesNotTakeHiddenStagesFromATeachersConfiguration() throws {
        let teachers: [ByteString: JSONValue] = [
            "model_type": .string("qwen2"), "use_rope": .null, "balance_state": .null,
        ]
        #expect(try describe("radlads/rad-rwkv7", teachers).unknown == ["use_rope", "balance_state"])
        let one = teachers.merging(["use_rope": .bool(true)]) { $1 }
        #expect(try describe("radlads/rad-rwkv7", one).unknown == ["balance_state"])
        let own = teachers.merging(["model_type": .string("rwkv7qwen2")]) { $1 }
        #expect(try describe("radlads/rad-rwkv7", own).unknown == [])
    }

    /// The biases of an attention's inputs come together.
    @Test func findsAMissingBias() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("radlads/rad-rwkv7"))
        let configuration = try ModelConfiguration(beside: checkpoint)
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model.safetensors")
            try writeSafetensors(
                checkpoint.tensors.filter { !$0.name.hasSuffix("self_attn.k_proj.bias") }.map { ($0.name, $0.shape) },
                to: path)
            let recognition = try ModelRecognition.recognize(
                Checkpoint.open(path.path(percentEncoded: false)), configuration: configuration)
            guard case .model(let model)? = recognition else { return #expect(Bool(false)) }
            #expect(model.findings.contains { $0.kind == .missing && $0.message.contains("k_proj.bias is missing") })
        }
    }

    private static let contradictions: [(String, [ByteString: JSONValue], ModelFinding.Kind, String)] = [
        ("radlads/rad-rwkv7", ["gate_rank_type": .integer(1)], .missing, "gate.weight is missing"),
        ("radlads/rad-rwkv7", ["gate_rank_type": .integer(0)], .unexpected, "g1 is not a tensor"),
        ("radlads/rad-rwkv7", ["groupnorm_att": .bool(true)], .missing, "ln_x.weight is missing"),
        ("radlads/rad-rwkv7", ["num_attention_layers": .integer(2)], .contradiction, "layer 2 attention"),
        ("radlads/rad-rwkv7", ["use_bonus": .bool(true)], .undescribed, "use_bonus"),
        ("radlads/rad-rwkv7", ["lora_rank_iclr": .integer(7)], .contradiction, "rank 7"),
        ("radlads/rad-rwkv7", ["num_key_value_heads": .integer(2)], .contradiction, "key-value heads"),
        ("radlads/rad-rwkv6", ["use_tokenshift": .bool(false)], .unexpected, "time_maa_x is not a tensor"),
        ("radlads/rad-rwkv6", ["head_dim": .integer(8)], .contradiction, "head"),
        ("arwkv/arwkv", ["wkv_has_gate": .bool(true)], .missing, "g1 is missing"),
        ("arwkv/arwkv-gate", ["wkv_has_group_norm": .bool(false)], .unexpected, "ln_x.weight is not a tensor"),
        ("arwkv/arwkv-gate", ["head_size_divisor": .integer(4)], .undescribed, "head_size_divisor"),
        ("arwkv/arwkv-gate", ["head_size": .integer(8)], .contradiction, "head size 8"),
        ("arwkv/arwkv", ["wkv_version": .integer(6)], .undescribed, "wkv_version"),
        ("arwkv/arwkv", ["wkv_layers": .array([.integer(0)])], .undescribed, "wkv_layers"),
        ("eagle-finch/x060-fla", ["expand_k": .number(0.5)], .undescribed, "expand_k"),
        ("eagle-finch/x060-fla", ["norm_first": .bool(false)], .undescribed, "norm_first"),
        ("eagle-finch/x060-fla", ["proj_low_rank_dim": .integer(16)], .contradiction, "token shift rank 16"),
    ]

    @Test(arguments: contradictions.indices)
    func findsSwitchesThatContradictTheTensors(number: Int) throws {
        let (fixture, changes, kind, words) = Self.contradictions[number]
        let findings = try describe(fixture, changes).findings
        #expect(findings.contains { $0.kind == kind && $0.message.contains(words) }, "\(changes) \(findings)")
    }
}
