import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing
import TokenFiles

@testable import LayerPlanning
@testable import RWKVDistillation

/// Compares the steps of distillation runs with those of an independent implementation in float64.
struct StepTests {
    typealias Case = DistillationCase

    static let cases = DistillationCase.all

    @Test func casesAreThere() { #expect(Self.cases.count == 34) }

    /// Returns the largest relative error of losses, learning rates and gradient norms.
    private func error<Element: Real>(_ fixture: Case, as type: Element.Type) throws -> Double {
        let kernels = try #require(Kernels<Element>(.fast, threads: 2))
        var worst = 0.0
        func compare(_ found: Double, _ expected: Double) {
            worst = max(worst, abs(found - expected) / abs(expected))
        }
        try fixture.distilling(as: type) { distillation in
            for expected in fixture.steps {
                let step = try distillation.next(kernels)
                compare(step.loss, expected.loss)
                compare(step.rate, expected.learning_rate)
                compare(step.gradientNorm, expected.gradient_norm)
                let layers = expected.layers ?? []
                #expect(step.layers.count == layers.count)
                for (found, expected) in zip(step.layers, layers) { compare(found.loss, expected) }
            }
            #expect(distillation.isDone)
        }
        return worst
    }

    @Test("steps agree with an independent implementation", arguments: cases)
    func steps(_ fixture: Case) throws {
        #expect(try error(fixture, as: Double.self) < 1e-7)
        #expect(try error(fixture, as: Float.self) < 1e-4)
    }

    @Test("steps of students with other bodies agree with an independent implementation", arguments: Case.ofDecoders)
    func stepsOfDecoders(_ fixture: Case) throws {
        #expect(Case.ofDecoders.count == 13)
        #expect(try error(fixture, as: Double.self) < 1e-7)
        #expect(try error(fixture, as: Float.self) < 1e-4)
    }

    @Test("a run that is stopped is as it was before the step, and one that needs too much memory does not begin")
    func stopped() throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        for name in ["alignment", "divergence"] {
            try Case.named(name).distilling(as: Float.self) { distillation in
                let error = #expect(throws: CheckpointError.self) { try distillation.checkMemory(atMost: 1_000_000) }
                #expect(error?.category == .unsupported)
                try distillation.checkMemory(atMost: 40_000_000)
                let weights = distillation.student.parameters.map(\.values.array)
                let progress = WorkProgress()
                progress.cancel()
                let end = #expect(throws: CheckpointError.self) {
                    try distillation.next(kernels, progress: progress)
                }
                #expect(end?.category == .cancelled && distillation.step == 0)
                #expect(distillation.student.parameters.map(\.values.array) == weights)
            }
        }
    }

    @Test("any number of threads gives the same weights")
    func threads() throws {
        let fixture = try Case.named("divergence beside attention")
        let weights = try [1, 2].map { threads in
            let kernels = try #require(Kernels<Float>(.fast, threads: threads))
            var weights: [[Float]] = []
            try fixture.distilling(as: Float.self) { distillation in
                while !distillation.isDone { _ = try distillation.next(kernels) }
                weights = distillation.student.parameters.map(\.values.array)
            }
            return weights
        }
        #expect(weights[0] == weights[1])
    }

    @Test("merged adapters equal what was trained", arguments: cases.filter { $0.text("train-adapter") != nil })
    func merged(_ fixture: Case) throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        try fixture.distilling(as: Float.self) { distillation in
            try withTemporaryDirectory { directory in
                let run = directory.appending(path: "run").path(percentEncoded: false)
                let whole = directory.appending(path: "whole").path(percentEncoded: false)
                var training = try DistillationRun(distillation, in: run)
                try training.finish(kernels)
                #expect(training.log.steps[4].figures.loss < training.log.steps[0].figures.loss)
                let base = try Checkpoint.open(run)
                let source = ConversionInput(
                    base, model: try described(base), configuration: try ModelConfiguration(beside: base))
                _ = try Conversion(
                    of: source, adapter: Checkpoint.open(run + "/adapter"),
                    options: ConversionOptions(to: .directory(path: whole, shardByteCount: 1 << 30))
                ).write(replaces: false, threads: 2, planHash: nil, version: "test")
                let merged = try Checkpoint.open(whole)
                func verdict(of checkpoint: Checkpoint) throws -> Verification.Verdict {
                    try Verification(
                        of: Model<Float>(checkpoint, described(checkpoint)),
                        against: .model(training.distillation.student.model),
                        on: .seeded(vocabulary: training.distillation.student.model.vocabulary), kernels
                    ).verdict
                }
                #expect(try verdict(of: merged) == .match)
                #expect(try verdict(of: base) == .differs)
            }
        }
    }

    @Test("evaluation on held-out tokens agrees with an independent implementation")
    func heldOut() throws {
        struct Expected: Decodable {
            let kl, top1, recall, teacher_recall, recall_of_known: Double
            let queries, tokens: Int
        }
        let expected = try Repository.json("distillation/held-out.json", as: Expected.self)
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        let teacher = try Checkpoint.open(Repository.fixture("planted-teacher"))
        let tokens = try TokenSequences(contentsOf: Repository.fixture("distillation/tokens.npy"))
        let fixture = try Case.named("alignment")
        try fixture.distilling(as: Float.self) { distillation in
            let found = try HeldOut(
                Model(teacher, described(teacher)), distillation.student.model, tokens, kernels)
            #expect(found.tokenCount == expected.tokens && found.recall.count == expected.queries)
            #expect(abs(found.divergence - expected.kl) < 1e-5 * expected.kl)
            // Two tokens can be almost equally likely, so the predicted token can differ at one position.
            let some = 1.5 / Double(expected.tokens)
            #expect(abs(found.agreement - expected.top1) < some)
            let queries = Double(found.recall.count)
            #expect(abs(Double(found.recall.student) / queries - expected.recall) < 1.5 / queries)
            #expect(abs(Double(found.recall.teacher) / queries - expected.teacher_recall) < 1.5 / queries)
            #expect(abs(try #require(found.recall.accuracy) - expected.recall_of_known) < 2 / queries)
        }
    }

    @Test("held-out tokens outside the vocabulary, and students of another vocabulary, are refused")
    func foreignHeldOutTokens() throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        func model(_ path: String) throws -> Model<Float> {
            let checkpoint = try Checkpoint.open(Repository.fixture(path))
            return try Model(checkpoint, described(checkpoint))
        }
        let (teacher, other) = (try model("logits/qwen3"), try model("planted-teacher"))
        try #require(teacher.vocabulary < other.vocabulary)
        let foreign = try TokenSequences([Array(repeating: 1, count: 512) + [teacher.vocabulary]], path: "foreign")
        #expect(throws: CheckpointError.self) { try HeldOut(teacher, teacher, foreign, kernels) }
        for (a, b) in [(teacher, other), (other, teacher)] {
            #expect(throws: CheckpointError.self) { try HeldOut(a, b, .seeded(vocabulary: 96), kernels) }
        }
    }

    @Test("windows of no tokens are refused")
    func emptyWindows() throws {
        let tokens = TokenSequences.seeded(vocabulary: 96)
        for length in [0, -1, 129] {
            #expect(throws: CheckpointError.self) { try TrainingOrder(tokens, length: length, seed: 1) }
        }
    }

    @Test(
        "logs that no run wrote are refused",
        arguments: [
            (#""step": 1,"#, #""step": 2,"#), (#""step": 2, "path""#, #""step": 5000, "path""#),
            (#""index": 0"#, #""index": -3"#), (#""index": 0"#, #""index": 99999999999999"#), ("}\n", "}"),
            (#""loss""#, #""lost""#), (#""seconds": 0.25"#, #""seconds": -1"#), (#""tokens": 384"#, #""tokens": 0"#),
            (#""product""#, #""producer""#), (#""step": 0"#, #""step": 1"#), (#""kl": 1.0"#, #""kl": null"#),
        ])
    func damagedLogs(_ old: String, _ new: String) throws {
        let fixture = try Case.named("alignment")
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        try fixture.distilling(as: Float.self) { distillation in
            var log = DistillationLog()
            log.add(Arithmetic(kernels))
            for _ in 0..<2 { try log.add(distillation.next(kernels), tokens: 192, seconds: 0.25) }
            let seen = HeldOut(
                tokenCount: 1, divergence: 1, agreement: 1, recall: .init(count: 0, teacher: 0, student: 0, both: 0))
            log.add(seen, path: "tokens.npy")
            try withTemporaryDirectory { directory in
                let file = directory.appending(path: "log.jsonl")
                try Data(log.bytes).write(to: file)
                #expect(try DistillationLog(contentsOf: file.path) == log)
                let text = String(decoding: log.bytes, as: UTF8.self)
                let place = try #require(text.range(of: old, options: .backwards))
                try Data(text.replacingCharacters(in: place, with: new).utf8).write(to: file)
                let error = #expect(throws: CheckpointError.self) { try DistillationLog(contentsOf: file.path) }
                #expect(error?.category == .malformed && error?.offset != nil)
            }
        }
    }

    @Test("log entries have the members of the schema")
    func schemaMembers() throws {
        let path = Repository.root.appending(path: "schemas/distill-log.schema.json").path
        let schema = try JSONValue(contentsOf: path)
        #expect(SchemaMembers.differences(of: DistillationLog.Step.self, from: "step", in: schema) == [])
        #expect(SchemaMembers.differences(of: DistillationLog.Evaluation.self, from: "evaluation", in: schema) == [])
        #expect(SchemaMembers.differences(of: ArithmeticEntry.self, from: "arithmetic", in: schema) == [])
    }

    @Test("skipping windows advances the order like taking them")
    func skipping() throws {
        let tokens = try TokenSequences((0..<5).map { [$0, $0] }, path: "tokens")
        var (taken, skipped) = (
            try TrainingOrder(tokens, length: 1, seed: 3), try TrainingOrder(tokens, length: 1, seed: 3)
        )
        for count in [3, 0, 7, 10, 31] {
            _ = taken.next(count)
            skipped.skip(count)
            #expect(taken.next(4) == skipped.next(4))
        }
    }
}
