import CheckpointConversion
import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

@testable import LayerPlanning

/// Tests the students of each kind of decoder teacher.
struct DecoderStudentTests {
    static let teachers = [
        "mistral", "phi3", "phi4", "phi4-mini", "gemma2", "gemma3", "gemma3-wrapped", "gemma3-wrapped-old", "glm4",
    ]
    static let targets = ["cxa076", "hxa079", "hxa07a", "hxa07b", "hxa07d", "rad-rwkv7", "rad-rwkv6"]

    private func recognise(_ path: String) throws -> RecognisedModel {
        try RecognisedModel(path: path, temporaryDirectory: NSTemporaryDirectory())
    }

    /// Converts a teacher into a student, keeping attention in the given layers, and passes both to a closure together
    /// with the layer plan.
    private func withStudent(
        of name: String, _ target: String, keeping layers: (Int) -> Set<Int>, attentionUsesRoPE: Bool? = nil,
        _ body: (_ teacher: RecognisedModel, _ student: RecognisedModel, LayerPlan) throws -> Void
    ) throws {
        let teacher = try recognise(Repository.fixture("decoders/\(name)"))
        let description = try teacher.description
        let architecture = try #require(ArchitectureRegistry.target(named: target))
        let plan = try LayerPlan(
            of: description, target: architecture, .listed(layers(description.layers.count)),
            attentionUsesRoPE: attentionUsesRoPE, seed: 1)
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "student").path(percentEncoded: false)
            var options = ConversionOptions(to: .directory(path: path, shardByteCount: .max))
            options.mayBeUnused = { $0.hasPrefix("vision_tower.") || $0.hasPrefix("multi_modal_projector.") }
            let conversion = try Conversion(of: ConversionInput(teacher), plan: plan, options: options)
            _ = try conversion.write(replaces: false, threads: 1, planHash: nil, version: "test")
            try body(teacher, recognise(path), plan)
        }
    }

    private func logits(_ recognised: RecognisedModel) throws -> [Float] {
        let model = try Model<Float>(recognised)
        let kernels = try #require(Kernels<Float>(.strict, threads: 2))
        var state = model.start(length: 40)
        return try model.logits(try model.hidden((0..<40).map { $0 * 7 % 61 }, &state, kernels), kernels).array
    }

    @Test("equal their teacher if all layers keep attention", arguments: teachers, targets)
    func keepAll(_ name: String, _ target: String) throws {
        try withStudent(of: name, target, keeping: { Set(0..<$0) }, attentionUsesRoPE: true) { teacher, student, plan in
            #expect(plan.dropped.isEmpty)
            let (own, theirs) = try (student.description, teacher.description)
            #expect(own.kinds == theirs.kinds && own.findings.isEmpty && own.unknown.isEmpty, "\(own.findings)")
            #expect(own.parameterCount == theirs.parameterCount)
            #expect(try logits(student) == logits(teacher))
        }
    }

    /// If a student has no attention layers, its config.json does not set the sliding window.
    @Test("regain their teacher's windows with its attention", arguments: ["mistral", "gemma3", "phi4-mini"])
    func restored(_ name: String) throws {
        try withStudent(of: name, "hxa079", keeping: { _ in [] }) { teacher, student, _ in
            let architecture = try #require(ArchitectureRegistry.target(named: "hxa079"))
            let plan = try LayerPlan(
                of: teacher.description, target: architecture, .listed([1]), attentionUsesRoPE: true, seed: 1)
            try withTemporaryDirectory { directory in
                let path = directory.appending(path: "restored").path(percentEncoded: false)
                let conversion = try Conversion(
                    of: ConversionInput(student), teacher: ConversionInput(teacher), plan: plan,
                    options: ConversionOptions(to: .directory(path: path, shardByteCount: .max)))
                _ = try conversion.write(replaces: false, threads: 1, planHash: nil, version: "test")
                let restored = try recognise(path).description
                #expect(restored.findings.isEmpty && restored.unknown.isEmpty, "\(restored.findings)")
                #expect(try restored.layers[1].attention?.window == teacher.description.layers[1].attention?.window)
                #expect(try restored.layers[1].rotation == teacher.description.layers[1].rotation)
                #expect(restored.kinds == plan.layers.map(\.kind))
            }
        }
    }

    @Test("are recognised as planned", arguments: teachers, targets)
    func keepSome(_ name: String, _ target: String) throws {
        for kept: Set<Int> in [[], [1]] {
            try withStudent(of: name, target, keeping: { _ in kept }) { teacher, student, plan in
                let own = try student.description
                #expect(own.findings.isEmpty && own.unknown.isEmpty, "\(own.findings)")
                #expect(own.kinds == plan.layers.map(\.kind) && own.parameterCount == plan.studentParameterCount)
                #expect(student.warnings.isEmpty, "\(student.warnings)")
                let architecture = try #require(ArchitectureRegistry.target(named: target))
                let description = try teacher.description.student(
                    architecture, attention: kept, attentionUsesRoPE: plan.switches.attentionUsesRoPE)
                let planned = try #require(description)
                #expect(own.layers == planned.layers)
                #expect(own.logitSoftcap == planned.logitSoftcap)
                #expect(try logits(student).allSatisfy(\.isFinite))
            }
        }
    }
}
