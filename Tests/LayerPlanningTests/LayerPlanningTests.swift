import Bytes
import CheckpointFiles
import CheckpointJSON
import Foundation
import LayerPlanning
import ModelFamilies
import TestSupport
import Testing

private func teacher(_ name: String) throws -> ModelDescription {
    let configuration = try ModelConfiguration(path: Repository.fixture("models/published/\(name).json"))
    guard case .model(let model) = try ModelRecognition.recognize(nil, configuration: configuration) else {
        throw CheckpointError(.unsupported, path: name, "is not described")
    }
    return model
}

@Suite struct LayerSelectionTests {
    @Test func putsLayersWhereTheyAreExpected() throws {
        func layers(_ count: Int, _ layerCount: Int, _ spacing: LayerSelection.Spacing) -> [Int]? {
            LayerSelection(count: count, of: layerCount, spacing: spacing, forbid: [0])?.layers
        }
        #expect(layers(9, 36, .lastOfGroup) == [3, 7, 11, 15, 19, 23, 27, 31, 35])
        #expect(layers(12, 48, .lastOfGroup) == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47])
        #expect(layers(0, 12, .prior) == [])
        #expect(layers(1, 1, .uniform) == nil)
        for layerCount in [24, 28, 36, 44, 64] {
            for count in [1, 2, 4, 5, 6, 8] {
                let found = try #require(layers(count, layerCount, .prior)).map { Double($0) / Double(layerCount - 1) }
                #expect(
                    found.count { 0.43...0.97 ~= $0 } == (count >= 5 ? count - 1 : count),
                    "\(count) of \(layerCount): \(found)")
                #expect(found.allSatisfy { $0 * Double(layerCount - 1) >= 3 })
            }
            #expect(layers(layerCount - 1, layerCount, .prior) == Array(1..<layerCount))
        }
    }

    /// Compares the selection with every possible choice in small models.
    @Test func findsTheNearestOfAllChoices() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            let layerCount = Int.random(in: 1...9, using: &generator)
            let count = Int.random(in: 1...layerCount, using: &generator)
            let gap = Int.random(in: 1...3, using: &generator)
            let random = { Set((0..<layerCount).filter { _ in Int.random(in: 0..<6, using: &generator) == 0 }) }
            let (require, forbid) = (random(), random())
            let spacing = LayerSelection.Spacing.allCases[Int.random(in: 0..<2, using: &generator)]
            // `LayerSelection` minimises the sum of squared distances to these positions.
            let ideal = (0..<count).map { number in
                spacing == .uniform
                    ? (Double(number) + 0.5) * Double(layerCount) / Double(count) - 0.5
                    : Double((number + 1) * layerCount / count - 1)
            }
            func cost(_ layers: [Int]) -> Double { zip(layers, ideal).reduce(0) { $0 + pow(Double($1.0) - $1.1, 2) } }
            let allowed = (0..<1 << layerCount).map { bits in (0..<layerCount).filter { bits >> $0 & 1 == 1 } }.filter {
                layers in
                layers.count == count && require.isSubset(of: layers) && forbid.isDisjoint(with: layers)
                    && zip(layers, layers.dropFirst()).allSatisfy { $1 - $0 >= gap }
            }
            let found = LayerSelection(
                count: count, of: layerCount, spacing: spacing, require: require, forbid: forbid, minimumGap: gap)
            #expect((found == nil) == allowed.isEmpty)
            if let found, let best = allowed.map(cost).min() {
                #expect(allowed.contains(found.layers) && abs(cost(found.layers) - best) < 1e-9)
            }
        }
    }
}

@Suite struct LayerPlanTests {
    private func plan(_ name: String, _ target: Architecture, _ layers: Set<Int>) throws -> LayerPlan {
        try #require(
            LayerPlan(of: try teacher(name), target: target, LayerSelection(layers, reason: "listed"), seed: 7))
    }

    private func document(_ plan: LayerPlan) throws -> String {
        var bytes: [UInt8] = []
        try withoutActuallyEscaping({ bytes += $0 }) { try plan.writeJSON(to: ByteOutput(to: $0), context: 4096) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The student's KV cache is about 1/7 of the teacher's, as in Reka's model card.
    @Test func countsMemory() throws {
        let reka = try plan("reka-flash-3.1", .cxa079, [8, 15, 22, 29, 36, 43])
        #expect(reka.target == "hxa079")
        #expect(reka.teacherMemory.cacheBytesPerToken == 135_168 && reka.studentMemory.cacheBytesPerToken == 18_432)
        #expect(reka.teacherMemory.stateBytes == 0 && reka.studentMemory.stateBytes == 38 * 2_359_296)
        #expect(
            reka.ranks == [
                .decayRank: 320, .iclrRank: 128, .valueResidualRank: 96, .keyResidualRank: 96, .gateRank: 384,
            ])
        let qwen = try plan("qwen3-8b", .cxa079, [35])
        #expect(qwen.studentMemory.cacheBytesPerToken == 4096 && qwen.studentMemory.stateBytes == 35 * 2_097_152)
        let none = try plan("qwen3-8b", .cxa076, [])
        #expect(none.target == "cxa076" && none.studentMemory.cacheBytesPerToken == 0)
        #expect(none.ranks == [.decayRank: 128, .iclrRank: 128, .valueResidualRank: 96, .gateRank: 480])
    }

    @Test(arguments: [
        (2048, 256, 96, 64, 256), (4096, 256, 128, 96, 256), (5120, 288, 128, 96, 320), (6144, 320, 128, 96, 384),
        (8192, 384, 160, 128, 480),
    ])
    func givesTheRanksOf079(width: Int, decay: Int, iclr: Int, residual: Int, gate: Int) throws {
        let ranks = try #require(Architecture.cxa079.conversion).ranks
        #expect(ranks[.decayRank]?(width: width) == decay && ranks[.iclrRank]?(width: width) == iclr)
        #expect(
            ranks[.valueResidualRank]?(width: width) == residual
                && ranks[.keyResidualRank]?(width: width) == residual)
        #expect(ranks[.gateRank]?(width: width) == gate)
    }

    /// The planned student has the same tensors as the student in the fixture.
    @Test func plansThePublishedShapes() throws {
        func open(_ path: String) throws -> ModelDescription {
            let checkpoint = try Checkpoint.open(Repository.fixture("models/" + path))
            guard
                case .model(let model) = try ModelRecognition.recognize(
                    checkpoint, configuration: ModelConfiguration(beside: checkpoint))
            else { throw CheckpointError(.unsupported, path: path, "is not described") }
            return model
        }
        // The fixture has the sizes of its teacher, but its ranks do not follow the recipe's formulas.
        let student = try open("hxa079")
        let ranks = ModelDimension.ranks.reduce(into: [:]) { $0[$1] = student.dimensions[$1] }
        let planned = try #require(
            try open("qwen3").student(.cxa079, attention: [2], ranks: ranks, attentionUsesRoPE: false))
        func list(_ model: ModelDescription) -> Set<String> {
            Set(
                model.tensors.filter { !$0.role.rawValue.hasSuffix("_record") }.map {
                    "\($0.role) \($0.layer ?? -1) \($0.shape ?? [])"
                })
        }
        #expect(list(planned) == list(student))
        #expect(planned.variant == "hxa079")
    }

    @Test func readsWhatTimeMixingDrops() throws {
        let path = Repository.fixture("decoders/gemma2")
        let teacher = try RecognisedModel(path: path, temporaryDirectory: NSTemporaryDirectory()).description
        let plan = try LayerPlan(of: teacher, target: .cxa079, .listed([1]), seed: 0)
        let text = try document(plan)
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "plan.json")
            func read(_ text: String) throws -> LayerPlan {
                try Data(text.utf8).write(to: file)
                return try LayerPlan(contentsOf: file.path(percentEncoded: false), teacher: teacher)
            }
            let same = try read(text)
            #expect(same == plan && plan.dropped.count == 3)
            for (old, new) in [
                (#""kind": "window", "value": 8"#, #""kind": "window", "value": 9"#),
                (#""kind": "softcap""#, #""kind": "window""#), (#""dropped": ["#, #""other": ["#),
            ] {
                let changed = text.replacing(old, with: new, maxReplacements: 1)
                #expect(changed != text)
                let error = #expect(throws: CheckpointError.self) { try read(changed) }
                #expect(error?.description.contains("dropped") == true)
            }
        }
    }

    @Test func readsWhatItWrites() throws {
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "plan.json")
            for (name, target) in [
                ("qwen3-8b", Architecture.cxa079), ("qwen2.5-0.5b", .cxa076), ("llama-3.1-8b", .cxa079),
            ] {
                let plan = try plan(name, target, [3, 9])
                let text = try document(plan)
                #expect(try document(try self.plan(name, target, [3, 9])) == text)
                try Data(text.utf8).write(to: file)
                #expect(try LayerPlan(contentsOf: file.path(percentEncoded: false), teacher: try teacher(name)) == plan)
            }
        }
    }

    @Test(arguments: [
        ("\"hxa079\"", "\"hxa099\"", "target is unknown"), ("\"hxa079\"", "\"cxa079\"", "does not fit"),
        ("\"head_norm\": true", "\"head_norm\": false", "does not fit"),
        ("\"kv_cache_bytes_per_token\": 8192", "\"kv_cache_bytes_per_token\": 1", "does not fit"),
        ("\"index\": 35", "\"index\": 99", "(layers.35.index): expected 35"),
        ("\"schema\": \"rwkv-ckpt/plan/1\"", "\"schema\": \"x\"", "not a plan"),
        ("{\"index\": 34, \"kind\": \"rwkv7\", \"reason\": \"not chosen\"},", "", "a different number of layers"),
        (
            "{\"index\": 35, \"kind\": \"rwkv7\", \"reason\": \"not chosen\"}",
            "{\"index\": 35, \"kind\": \"rwkv7\", \"reason\": \"not chosen\"}, {\"index\": 36, \"kind\": \"rwkv7\", \"reason\": \"\"}",
            "a different number of layers"
        ),
        ("\"kind\": \"gqa\"", "\"kind\": \"mha\"", "layers.3.kind"),
        ("\"decay\": 256", "\"decay\": 128", "does not fit"),
        ("\"decay\": 256", "\"decay\": 0", "a rank"),
        ("\"gate\": 256", "\"gat\": 256", "(ranks.gat): expected nothing, found 256"),
        (", \"gate\": 256", "", "(ranks.gate): expected 256, found nothing"),
        ("\"identity\": \"", "\"identity\": \"0", "a different teacher"),
        ("\"rwkv_rope\": true", "\"rwkv_rope\": false", "does not fit"),
        ("\"first_rwkv_layer\"", "\"layer_9\"", "first_rwkv_layer or layer_0"),
        ("\"seed\": 7", "\"seed\": -7", "seed"), ("\"seed\": 7", "\"seed\": 7.5", "seed"),
        ("\"seed\": 7", "\"seed\": 7, \"seed\": 8", "twice"),
        ("\"decay.up\"", "\"decay.left\"", "(initialisers.decay.left): expected nothing"),
        ("\"kv_cache_bytes\": ", "\"kv_cache_bytes\": 1", "memory.teacher.kv_cache_bytes"),
        ("\"seed\": 7", "\"seed\": 7, \"sead\": 8", "(sead)"),
        ("\"output\": 1.0", "\"output\": null", "fits into fp32"),
        ("\"decay_ramp_with_heads\"", "\"ones\"", "an initialiser"),
        ("\"output\": 1.0", "\"output\": true", "a number"), ("}", "", "expected"),
    ])
    func refusesPlansThatAreWrong(old: String, new: String, problem: String) throws {
        let text = try document(try plan("qwen3-8b", .cxa079, [3, 9]))
        let changed = text.replacing(old, with: new, maxReplacements: 1)
        #expect(changed != text)
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "plan.json")
            try Data(changed.utf8).write(to: file)
            let error = #expect(throws: CheckpointError.self) {
                try LayerPlan(contentsOf: file.path(percentEncoded: false), teacher: try teacher("qwen3-8b"))
            }
            #expect(
                error?.category == .malformed && error?.description.contains(problem) == true,
                "\(error?.description ?? "")")
            #expect(throws: CheckpointError.self) {
                try Data(text.utf8).write(to: file)
                _ = try LayerPlan(contentsOf: file.path(percentEncoded: false), teacher: try teacher("qwen2.5-7b"))
            }
        }
    }

    @Test func membersAreThoseOfTheSchema() throws {
        let schema = try JSONValue(contentsOf: Repository.root.appending(path: "schemas/plan.schema.json").path)
        #expect(SchemaMembers.differences(of: LayerPlanDocument.self, in: schema) == [])
        let targets = ArchitectureRegistry.targetNames.map { JSONValue.string(ByteString($0)) }
        #expect(Set(schema["properties"]?["target"]?["enum"]?.array ?? []) == Set(targets))
    }
}
