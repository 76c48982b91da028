import CheckpointFiles
import Foundation
import ModelFamilies
import TestSupport
import Testing

@testable import LayerPlanning

@Suite struct LayerChoiceTests {
    /// Creates a teacher in which each layer takes 8 bytes per token as attention, or 32 bytes as time mixing.
    private func teacher(layers: Int = 8) throws -> ModelDescription {
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "config.json")
            let document = """
                {"model_type": "qwen3", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, \
                "intermediate_size": 8, "num_hidden_layers": \(layers), "vocab_size": 9, "rms_norm_eps": 1e-6, "rope_theta": 1e6}
                """
            try Data(document.utf8).write(to: file)
            return try RecognisedModel(ModelConfiguration(path: file.path(percentEncoded: false))).description
        }
    }

    private func random(_ layerCount: Int, _ generator: inout some RandomNumberGenerator) -> LayerConditions {
        var conditions = LayerConditions()
        conditions.spacing = .uniform
        conditions.required = Set((0..<layerCount).filter { _ in Int.random(in: 0..<6, using: &generator) == 0 })
        conditions.forbidden = Set((0..<layerCount).filter { _ in Int.random(in: 0..<6, using: &generator) == 0 })
        conditions.minimumGap = Int.random(in: 1...4, using: &generator)
        return conditions
    }

    /// Returns all sets of layers that satisfy the conditions.
    private func allowed(_ layerCount: Int, _ conditions: LayerConditions) -> [[Int]] {
        (0..<1 << layerCount).map { bits in (0..<layerCount).filter { bits >> $0 & 1 == 1 } }.filter { layers in
            conditions.required.isSubset(of: layers) && conditions.forbidden.isDisjoint(with: layers)
                && (layers.first != 0 || conditions.required.contains(0))
                && zip(layers, layers.dropFirst()).allSatisfy { $1 - $0 >= conditions.minimumGap }
        }
    }

    @Test func countsWhatConditionsAllow() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<500 {
            let layerCount = Int.random(in: 1...9, using: &generator)
            let conditions = random(layerCount, &generator)
            let counts = Set(allowed(layerCount, conditions).map(\.count))
            let found = try? conditions.counts(of: layerCount)
            #expect(found.map { Set($0) } ?? [] == counts, "\(layerCount) \(conditions)")
        }
    }

    /// Tests contexts at which a layer's KV cache is smaller than, equal to or larger than its state.
    @Test func keepsAsManyLayersAsFit() throws {
        var generator = SystemRandomNumberGenerator()
        let models = try (1...8).map { try teacher(layers: $0) }
        for model in (0..<50).flatMap({ _ in models }) {
            let layerCount = model.layers.count
            let conditions = random(layerCount, &generator)
            let (cache, state) = (8, 32)
            let context = [1, 3, 4, 5, 100].randomElement(using: &generator) ?? 1
            let sizes = allowed(layerCount, conditions).map { layers in
                (count: layers.count, bytes: layers.count * cache * context + (layerCount - layers.count) * state)
            }
            let bytes = (sizes.randomElement(using: &generator)?.bytes ?? 0) + Int.random(in: -9...9, using: &generator)
            let choice = LayerChoice.budget(bytes, context: context, conditions)
            let expected = sizes.filter { $0.bytes <= bytes }.map(\.count).max()
            do {
                let plan = try LayerPlan(of: model, target: .cxa079, choice, seed: 0)
                #expect(plan.attentionLayers.count == expected)
                #expect(allowed(layerCount, conditions).contains(plan.attentionLayers))
                #expect(plan.studentMemory.bytes(context: context) <= bytes)
            } catch LayerPlanError.budget(let budget, let given, let smallest, let count) {
                #expect(expected == nil && budget == bytes && given == context)
                #expect(smallest == sizes.map(\.bytes).min())
                #expect(sizes.contains { $0.bytes == smallest && $0.count == count })
            } catch {
                #expect(sizes.isEmpty, "\(error)")
            }
        }
    }

    /// In this model, layers 2 and 5 see all tokens, and the other four layers see only the last 8.
    @Test func countsWhatWindowsKeep() throws {
        let path = Repository.fixture("decoders/gemma3")
        let teacher = try RecognisedModel(path: path, temporaryDirectory: NSTemporaryDirectory()).description
        let layer = 2 * 8 * 2 * 2  // Keys and values of two heads of 8 channels, in bf16.
        #expect(teacher.cacheBytesPerToken == 2 * layer && teacher.cacheBytesByWindow == [8: 4 * layer])
        let plan = try LayerPlan(of: teacher, target: .cxa079, .listed([1, 2]), seed: 0)
        #expect(plan.studentMemory.cacheBytesPerToken == layer)
        let state = 4 * (4 * 8 * 8 * 4)
        #expect(plan.studentMemory.stateBytes == state)
        #expect(plan.studentMemory.bytes(context: 5) == state + 10 * layer)
        #expect(plan.studentMemory.bytes(context: 100) == state + (100 + 8) * layer)
        #expect(plan.studentMemory.bytes(context: .max) == .max)
        // At this context, layers with a window are cheap, so whether three layers fit depends on which ones they are.
        var conditions = LayerConditions()
        (conditions.required, conditions.forbidden) = ([0, 1, 3], [4])
        let least = 3 * (4 * 8 * 8 * 4) + 3 * 8 * layer
        let choice = LayerChoice.budget(least, context: 1000, conditions)
        #expect(try LayerPlan(of: teacher, target: .cxa079, choice, seed: 0).attentionLayers == [0, 1, 3])
        conditions.required = [0, 1, 2]
        #expect(throws: LayerPlanError.self) {
            try LayerPlan(of: teacher, target: .cxa079, .budget(least, context: 1000, conditions), seed: 0)
        }
    }

    /// The error gives the smallest size of the students that the spacing selects, even if other layers would take less
    /// memory.
    @Test func namesTheSmallestStudentWithWindows() throws {
        let path = Repository.fixture("decoders/gemma3")
        let teacher = try RecognisedModel(path: path, temporaryDirectory: NSTemporaryDirectory()).description
        for spacing in LayerSelection.Spacing.allCases {
            var conditions = LayerConditions()
            (conditions.spacing, conditions.required) = (spacing, [2])
            let sizes = try (1...5).map { count in
                try LayerPlan(of: teacher, target: .cxa079, .count(count, conditions), seed: 0)
                    .studentMemory.bytes(context: 1000)
            }
            let smallest = try #require(sizes.min())
            let error = #expect(throws: LayerPlanError.self) {
                try LayerPlan(
                    of: teacher, target: .cxa079, .budget(smallest - 1, context: 1000, conditions), seed: 0)
            }
            guard case .budget(_, _, smallest, _) = error else {
                Issue.record("\(String(describing: error)), and not \(smallest)")
                continue
            }
            let plan = try LayerPlan(
                of: teacher, target: .cxa079, .budget(smallest, context: 1000, conditions), seed: 0)
            #expect(plan.studentMemory.bytes(context: 1000) == smallest)
        }
    }

    /// A plan lists only features that time mixing drops or changes, and only for layers that become time mixing.
    @Test func dropsWhatTimeMixingLoses() throws {
        func dropped(_ name: String, _ target: Architecture) throws -> [DroppedFeature.Kind] {
            let path = Repository.fixture("decoders/" + name)
            let teacher = try RecognisedModel(path: path, temporaryDirectory: NSTemporaryDirectory()).description
            return try LayerPlan(of: teacher, target: target, .listed([]), seed: 0).dropped.map(\.kind)
        }
        #expect(try dropped("glm4", .cxa079) == [.interleavedRotation])
        #expect(try dropped("glm4", .cxa076).isEmpty)
        #expect(try dropped("mistral", .cxa079) == [.window])
        #expect(try dropped("gemma2", .cxa079) == [.window, .softcap, .queryScale])
    }

    @Test func saysWhyThereIsNoPlan() throws {
        let model = try teacher()
        func error(_ choice: LayerChoice, seed: Int = 0) -> LayerPlanError? {
            do throws(LayerPlanError) {
                _ = try LayerPlan(of: model, target: .cxa079, choice, seed: seed)
                return nil
            } catch { return error }
        }
        func conditions(_ required: Set<Int>, _ forbidden: Set<Int> = [], gap: Int = 1) -> LayerConditions {
            var conditions = LayerConditions()
            (conditions.required, conditions.forbidden, conditions.minimumGap) = (required, forbidden, gap)
            return conditions
        }
        #expect(error(.listed([0, 7])) == nil)
        #expect(error(.listed([3, 8])) == .noSuchLayer(8, in: .kept, layerCount: 8))
        #expect(error(.listed([-1])) == .noSuchLayer(-1, in: .kept, layerCount: 8))
        #expect(error(.published("nobody")) == .unknownPublished("nobody"))
        #expect(error(.published("qwen3-8b")) == .publishedLayerCount("qwen3-8b", 36, teacher: 8))
        #expect(error(.count(8, conditions([]))) == .count(8, allowed: 0...7, layerCount: 8))
        #expect(error(.count(8, conditions([0]))) == nil)
        #expect(error(.count(-1, conditions([]))) == .count(-1, allowed: 0...7, layerCount: 8))
        #expect(error(.count(1, conditions([2, 5]))) == .count(1, allowed: 2...7, layerCount: 8))
        #expect(error(.count(5, conditions([], gap: 2))) == .count(5, allowed: 0...4, layerCount: 8))
        #expect(error(.count(1, conditions([9]))) == .noSuchLayer(9, in: .required, layerCount: 8))
        #expect(error(.count(1, conditions([], [9]))) == .noSuchLayer(9, in: .forbidden, layerCount: 8))
        #expect(error(.count(1, conditions([3], [3]))) == .requiredAndForbidden(3))
        #expect(error(.count(2, conditions([3, 5], gap: 3))) == .requiredTooClose(3, 5, minimumGap: 3))
        #expect(error(.count(2, conditions([], gap: 0))) == .gap(0))
        #expect(error(.listed([]), seed: -1) == .negativeSeed(-1))
        let none = LayerChoice.budget(255, context: 1000, conditions([]))
        #expect(error(none) == .budget(255, context: 1000, smallest: 256, attentionLayers: 0))
        let endless = LayerChoice.budget(.max, context: .max, conditions([]))
        #expect(try LayerPlan(of: model, target: .cxa079, endless, seed: 0).attentionLayers.isEmpty)
        let some = LayerChoice.budget(60, context: 1, conditions([], [5]))
        #expect(error(some) == .budget(60, context: 1, smallest: 6 * 8 + 2 * 32, attentionLayers: 6))

        let student = try RecognisedModel(Checkpoint.open(Repository.fixture("models/hxa079"))).description
        #expect(throws: LayerPlanError.self) { try LayerPlan(of: student, target: .cxa079, .listed([]), seed: 0) }
    }
}
