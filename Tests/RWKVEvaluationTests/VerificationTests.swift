import Bytes
import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing
import TokenFiles

/// Tests on a trained six-layer model that rounding errors pass verification and that known conversion errors are
/// flagged.
struct VerificationTests {
    private static let fixture = "planted-teacher"
    private static let (heads, keyValueHeads, size, width) = (4, 2, 32, 128)

    private func load(_ path: String) throws -> Model<Float> {
        try Model(RecognisedModel(Checkpoint.open(path)))
    }

    private func tokens() throws -> TokenSequences {
        try TokenSequences(contentsOf: Repository.fixture(Self.fixture + "/tokens.safetensors"))
    }

    private func verify(
        _ model: EditableModel, as dtype: DType = .f32, _ table: KernelTable = .fast, isReport: Bool = false
    ) throws -> Verification {
        try withTemporaryDirectory { directory in
            try model.write(to: directory, as: dtype)
            return try verify(
                try load(directory.path), against: .model(try load(Repository.fixture(Self.fixture))), table,
                isReport: isReport)
        }
    }

    private func verify(
        _ candidate: Model<Float>, against reference: VerificationReference, _ table: KernelTable = .fast,
        isReport: Bool = false
    ) throws -> Verification {
        try Verification(
            of: candidate, against: reference, on: try tokens(), isReport: isReport,
            try #require(Kernels<Float>(table, threads: 2)))
    }

    private func recorded(_ name: String) throws -> VerificationReference {
        .recorded(
            try #require(try RecordedLogits(try Checkpoint.open(Repository.fixture(Self.fixture + "/" + name)))))
    }

    @Test("rounding stays within the limits of its precision path")
    func rounding() throws {
        let teacher = try EditableModel(fixture: Self.fixture)
        let same = try verify(teacher)
        #expect(same.path == .fp32 && same.verdict == .match && same.logits?.nmse == 0 && same.logits?.top1 == 1)
        #expect(same.logits?.greedyAgreement == 32 && same.firstDivergence == nil)
        for (dtype, path) in [(DType.f16, PrecisionPath.fp16Weights), (.bf16, .bf16Weights)] {
            let rounded = try verify(teacher, as: dtype)
            #expect(rounded.path == path && rounded.verdict == .match, "\(dtype): \(rounded.exceeded)")
            // The rounding error exceeds the limit for fp32.
            #expect((rounded.logits?.nmse ?? 0) > VerificationLimits(.fp32, layerCount: 6).nmse)
        }
        let model = try load(Repository.fixture(Self.fixture))
        let exact = try verify(model, against: try recorded("reference.safetensors"))
        #expect(exact.path == .fp32 && exact.verdict == .match && (exact.logits?.nmse ?? 1) < 1e-11)
        let inBF16 = try verify(model, against: try recorded("reference-bf16.safetensors"))
        #expect(inBF16.path == .bf16Compute && inBF16.verdict == .match, "\(inBF16.exceeded)")
        #expect((inBF16.logits?.nmse ?? 0) > VerificationLimits(.bf16Weights, layerCount: 6).nmse / 10)
        #expect(inBF16.blocks == nil && inBF16.logits?.greedyAgreement == nil)
    }

    @Test("verify is the same for any number of threads", arguments: KernelTable.allCases)
    func reproducible(_ table: KernelTable) throws {
        let model = try load(Repository.fixture(Self.fixture))
        let found = try [1, 2].map { threads in
            let verification = try Verification(
                of: model, against: try recorded("reference.safetensors"), on: try tokens(),
                try #require(Kernels<Float>(table, threads: threads)))
            return try #require(verification.logits)
        }
        #expect(found[0].nmse == found[1].nmse && found[0].kl == found[1].kl && found[0].top5 == found[1].top5)
    }

    @Test("widened weights do not count as rounded")
    func widened() throws {
        let teacher = try EditableModel(fixture: Self.fixture)
        try withTemporaryDirectory { directory in
            let (narrow, wide) = (directory.appending(path: "narrow"), directory.appending(path: "wide"))
            try teacher.write(to: narrow, as: .bf16)
            try teacher.write(to: wide)
            let found = try verify(try load(wide.path), against: .model(try load(narrow.path)))
            #expect(found.path == .fp32 && found.verdict == .differs)
        }
    }

    // MARK: Deliberate errors

    /// Swaps the values of two tensors.
    private static func exchange(_ model: inout EditableModel, _ a: String, _ b: String) {
        (model[a], model[b]) = (model[b], model[a])
    }

    /// Reorders the rows, or the columns, of a matrix.
    private static func permute(
        _ model: inout EditableModel, _ name: String, channels: [Int], columns: Bool = false
    ) {
        let old = model[name]
        let count = channels.count
        if columns {
            let rows = old.count / count
            model[name] = (0..<rows).flatMap { row in channels.map { old[row * count + $0] } }
        } else {
            let width = old.count / count
            model[name] = channels.flatMap { old[$0 * width..<($0 + 1) * width] }
        }
    }

    private static func attention(_ layer: Int, _ part: String) -> String {
        "model.layers.\(layer).self_attn.\(part).weight"
    }

    /// Makes query head h use the keys and values of head h mod Hk instead of h / (H / Hk).
    private static func tileHeads(_ model: inout EditableModel, _ layer: Int) {
        // Query heads 0 and 1 use the first key-value head, and 2 and 3 the second, so this swaps query heads 1 and 2.
        let order = [0, 2, 1, 3].flatMap { head in (0..<size).map { head * size + $0 } }
        permute(&model, attention(layer, "q_proj"), channels: order)
        permute(&model, attention(layer, "o_proj"), channels: order, columns: true)
    }

    /// Quantises the projections of all layers to `levels` levels on each side of zero.
    ///
    /// Each group of columns in a row has its own scale; if `group` is nil, the entire row is one group.
    private static func quantise(_ model: inout EditableModel, levels: Float, group: Int?) {
        for name in model.names where name.contains("_proj") {
            let columns = model.shapes[name]?[1] ?? 1
            let group = group ?? columns
            var values = model[name]
            for start in stride(from: 0, to: values.count, by: group) {
                let part = start..<min(start + group, values.count)
                let scale = (values[part].map(\.magnitude).max() ?? 0) / levels
                for place in part where scale > 0 { values[place] = (values[place] / scale).rounded() * scale }
            }
            model[name] = values
        }
    }

    struct Fault: CustomTestStringConvertible, Sendable {
        let name: String
        /// The first layer that the fault affects.
        let layer: Int
        let block: Verification.Block
        let plant: @Sendable (inout EditableModel) -> Void
        var testDescription: String { name }
    }

    static let faults: [Fault] = [
        Fault(name: "epsilon 1e-6 to 1e-5", layer: 0, block: .mixer) { $0.configure("rms_norm_eps", 1e-5) },
        Fault(name: "gate and up exchanged in one layer", layer: 3, block: .mlp) {
            exchange(&$0, "model.layers.3.mlp.gate_proj.weight", "model.layers.3.mlp.up_proj.weight")
        },
        Fault(name: "one output projection transposed", layer: 2, block: .mixer) { model in
            let name = attention(2, "o_proj")
            let old = model[name]
            model[name] = (0..<width * width).map { old[$0 % width * width + $0 / width] }
        },
        Fault(name: "query norm left out", layer: 0, block: .mixer) { model in
            for layer in 0..<6 { model[attention(layer, "q_norm")] = Array(repeating: 1, count: size) }
        },
        Fault(name: "query norm left out in one layer", layer: 3, block: .mixer) { model in
            model[attention(3, "q_norm")] = Array(repeating: 1, count: size)
        },
        Fault(name: "theta 1e6 to 1e4", layer: 0, block: .mixer) { model in
            model.configure("rope_parameters", ["rope_type": "default", "rope_theta": 10000.0])
            model.configure("rope_theta", 10000.0)
        },
        Fault(name: "key-value heads tiled in one layer", layer: 4, block: .mixer) { tileHeads(&$0, 4) },
        Fault(name: "key-value heads tiled in all layers", layer: 0, block: .mixer) { model in
            for layer in 0..<6 { tileHeads(&model, layer) }
        },
        Fault(name: "layers 2 and 4 exchanged", layer: 2, block: .mixer) { model in
            for name in model.names where name.hasPrefix("model.layers.2.") {
                exchange(&model, name, name.replacing("layers.2.", with: "layers.4."))
            }
        },
        Fault(name: "rotation of neighbouring channels", layer: 0, block: .mixer) { model in
            // With these rows reordered, the model gives the same result as an engine that rotates neighbouring pairs
            // would with the original weights.
            let channels = (0..<size / 2).map { 2 * $0 } + (0..<size / 2).map { 2 * $0 + 1 }
            for layer in 0..<6 {
                for (part, heads) in [("q_proj", heads), ("k_proj", keyValueHeads), ("q_norm", 1), ("k_norm", 1)] {
                    let order = (0..<heads).flatMap { head in channels.map { head * size + $0 } }
                    permute(&model, attention(layer, part), channels: order)
                }
            }
        },
        Fault(name: "int8, a scale for each row", layer: 0, block: .mixer) { quantise(&$0, levels: 127, group: nil) },
        Fault(name: "int4, a scale for 32", layer: 0, block: .mixer) { quantise(&$0, levels: 7, group: 32) },
    ]

    @Test("is flagged, with the first layer that it affects", arguments: faults)
    func fault(_ fault: Fault) throws {
        var model = try EditableModel(fixture: Self.fixture)
        fault.plant(&model)
        let found = try verify(model)
        #expect(found.verdict == .differs)
        #expect(found.firstDivergence?.layer == fault.layer && found.firstDivergence?.block == fault.block)
        if fault.name.contains("one") {
            // No other block differs when it receives the reference's input, even if the error has spread through the
            // residual stream.
            let blocks = try #require(found.blocks)
            for (number, layer) in blocks.layers.enumerated() where number != fault.layer {
                #expect(layer.blockError == 0 && (layer.relativeError > 1e-3) == (number > fault.layer))
            }
            #expect(blocks.headError == 0)
        }
        // The fault is also flagged after rounding to BF16, which can hide small errors.
        let rounded = try verify(model, as: .bf16)
        #expect(rounded.path == .bf16Weights && rounded.verdict == .differs, "\(rounded.logits?.nmse ?? 0)")
        let report = try verify(model, isReport: true)
        #expect(report.verdict == .report)
    }

    @Test("constants that differ are named")
    func constants() throws {
        var model = try EditableModel(fixture: Self.fixture)
        model.configure("rms_norm_eps", 1e-5)
        let found = try verify(model)
        #expect(found.constants.map(\.name) == ["epsilon"])
        #expect(found.constants.first?.reference == "1e-06" && found.constants.first?.candidate == "1e-05")
    }

    @Test("receptances can make up for another epsilon of the heads' norm")
    func receptancesOfFinch() throws {
        var model = try EditableModel(fixture: "eagle-finch/x060-fla")
        func verifyFinch() throws -> Verification {
            try withTemporaryDirectory { directory in
                try model.write(to: directory)
                return try Verification(
                    of: try load(directory.path), against: .model(try load(Repository.fixture("eagle-finch/x060.pth"))),
                    on: .seeded(vocabulary: 96), try #require(Kernels<Float>(.fast, threads: 1)))
            }
        }
        let converted = try verifyFinch()
        #expect(converted.verdict == .match && converted.constants.isEmpty)
        // flash-linear-attention's own converter does not scale them.
        for layer in 0..<2 {
            let name = "model.layers.\(layer).attn.r_proj.linear.weight"
            model[name] = model[name].map { $0 * 8 }
        }
        let unscaled = try verifyFinch()
        #expect(unscaled.verdict == .differs && unscaled.constants.map(\.name) == ["epsilon of group norm"])
    }

    @Test("errors in embedding and head are distinguished from errors in layers")
    func ends() throws {
        var model = try EditableModel(fixture: "logits/qwen3")
        func verifyEnds() throws -> Verification {
            try withTemporaryDirectory { directory in
                try model.write(to: directory)
                return try Verification(
                    of: try load(directory.path), against: .model(try load(Repository.fixture("logits/qwen3"))),
                    on: .seeded(vocabulary: 96), try #require(Kernels<Float>(.fast, threads: 1)))
            }
        }
        model["lm_head.weight"][5] += 1
        #expect(try verifyEnds().firstDivergence?.block == .head)
        model["model.embed_tokens.weight"] = model["model.embed_tokens.weight"].map { $0 * 1.01 }
        let found = try verifyEnds()
        #expect(found.firstDivergence?.block == .embedding && found.firstDivergence?.layer == nil)
    }

    @Test("a tensor with NaN makes the verdict differ, and is named")
    func notFinite() throws {
        var model = try EditableModel(fixture: Self.fixture)
        let name = "model.layers.3.mlp.up_proj.weight"
        model[name][17] = .nan
        for isReport in [false, true] {
            let found = try verify(model, isReport: isReport)
            #expect(found.verdict == .differs && found.failure?.tensor == name && found.logits == nil)
        }
    }

    @Test("other vocabularies are refused; other shapes are compared by their logits alone")
    func shapes() throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        let (qwen, llama) = (try load(Repository.fixture("logits/qwen3")), try load(Repository.fixture("logits/llama")))
        let found = try Verification(of: llama, against: .model(qwen), on: .seeded(vocabulary: 96), kernels)
        #expect(found.verdict == .differs && found.blocks == nil && found.firstDivergence == nil)
        let teacher = try load(Repository.fixture(Self.fixture))
        #expect(throws: CheckpointError.self) {
            try Verification(of: qwen, against: .model(teacher), on: .seeded(vocabulary: 96), kernels)
        }
    }

    @Test("tokens outside the vocabulary, or not those of the recorded logits, are refused before anything runs")
    func foreignTokens() throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        let model = try load(Repository.fixture("logits/qwen3"))
        // With 513 tokens, the last token is in a later chunk than the token that predicts it.
        for count in [3, 513] {
            let foreign = try TokenSequences(
                [Array(repeating: 1, count: count - 1) + [model.vocabulary]], path: "foreign")
            #expect(throws: Self.outOfVocabulary(count - 1)) {
                try Verification(of: model, against: .model(model), on: foreign, kernels)
            }
            try withTemporaryDirectory { directory in
                let path = directory.appending(path: "logits.safetensors").path(percentEncoded: false)
                #expect(throws: Self.outOfVocabulary(count - 1)) {
                    try RecordedLogits.record(model, foreign, to: path, replaces: false, kernels)
                }
                let made = try FileManager.default.contentsOfDirectory(atPath: directory.path)
                #expect(made.isEmpty)
            }
        }
        let teacher = try load(Repository.fixture(Self.fixture))
        let reference = try recorded("reference.safetensors")
        #expect(throws: CheckpointError.self) {
            try Verification(of: teacher, against: reference, on: .seeded(vocabulary: teacher.vocabulary), kernels)
        }
    }

    private static func outOfVocabulary(_ place: Int) -> CheckpointError {
        CheckpointError(
            .malformed, path: "foreign", "token \(place) of sequence 0 is not in the model's vocabulary",
            expected: "0 to 95", found: "96")
    }

    @Test("limits can be set by name")
    func limits() throws {
        let model = try load(Repository.fixture(Self.fixture))
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        let reference = try recorded("reference.safetensors")
        var changed = try EditableModel(fixture: Self.fixture)
        changed["model.layers.5.input_layernorm.weight"][0] *= 1 + 1e-6
        try withTemporaryDirectory { directory in
            try changed.write(to: directory)
            for (limits, verdict) in [([:], Verification.Verdict.match), (["block": 1e-9], .differs)] {
                let found = try Verification(
                    of: try load(directory.path), against: .model(model), on: try tokens(), limits: limits, kernels)
                #expect(found.verdict == verdict)
            }
        }
        for (name, value) in [("nmse", 1e-30), ("kl_mean", 0), ("kl_max", 0), ("max_abs", 1e-12)] {
            let found = try Verification(
                of: model, against: reference, on: try tokens(), limits: [name: value], kernels)
            #expect(found.verdict == .differs && found.exceeded == [name], "\(found.exceeded)")
        }
    }
}
