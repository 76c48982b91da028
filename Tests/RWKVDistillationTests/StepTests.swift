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

@testable import LayerPlanning
@testable import RWKVDistillation

/// The first steps of runs, beside those that an independent implementation made in float64.
struct StepTests {
    struct Case: Decodable, Sendable, CustomTestStringConvertible {
        struct Step: Decodable {
            let loss: Double
            let layers: [Double]?
            let learning_rate: Double
            let gradient_norm: Double
        }

        let name: String
        let target: String
        let kept: String
        let options: [String: Option]
        let steps: [Step]
        var testDescription: String { name }

        func text(_ option: String) -> String? { options[option]?.text }
        func number(_ option: String) -> Double? { text(option).flatMap { Double($0) } }
    }

    /// A number or a text.
    struct Option: Decodable {
        let text: String

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            text = try (try? container.decode(String.self)) ?? "\(container.decode(Double.self))"
        }
    }

    static let cases = (try? Repository.json("distillation/steps.json", as: [Case].self)) ?? []

    @Test func casesAreThere() { #expect(Self.cases.count == 19) }

    private func settings<Element: Real>(_ fixture: Case, _: Element.Type) throws -> Distillation<Element>.Settings {
        func integer(_ option: String) -> Int { Int(fixture.number(option) ?? 1) }
        let isJoined = fixture.text("first-values") == "joined"
        let stage: Distillation<Element>.Stage
        if integer("stage") == 1 {
            var alignment = Alignment()
            alignment.passesFirstValues = isJoined
            if let loss = fixture.text("layer-loss") { alignment.loss = try #require(AlignmentLoss(rawValue: loss)) }
            stage = .alignment(alignment)
        } else {
            var divergence = LogitDivergence()
            divergence.passesFirstValues = isJoined
            divergence.crossEntropyWeight = fixture.number("ce-weight") ?? 0
            divergence.divides = fixture.text("temperature-target") == "teacher" ? .teacher : .both
            let temperatures = (fixture.text("temperature") ?? "1").split(separator: ",").compactMap { Double($0) }
            stage = .divergence(divergence, temperatures: temperatures)
        }
        var rate = LearningRate(try #require(fixture.number("rate")))
        rate.warmUp = integer("warm-up")
        if let schedule = fixture.text("schedule") {
            rate.schedule = try #require(LearningRate.Schedule(rawValue: schedule))
        }
        var settings = Distillation<Element>.Settings(stage, steps: integer("steps"), learningRate: rate)
        (settings.batch, settings.context) = (integer("batch"), integer("context"))
        (settings.accumulate, settings.seed) = (integer("accumulate"), UInt64(integer("seed")))
        if let scale = fixture.text("rate-scale")?.split(separator: "=") {
            var training = Training()
            training.weightDecay = try #require(fixture.number("weight-decay"))
            settings.rules = TrainingRules([.init("mixers", training)])
            training.rateScale = try #require(Double(scale[1]))
            settings.rules.rules.append(.init("*.\(scale[0])", training))
        }
        if let parts = fixture.text("train-adapter")?.split(separator: ":"), let kind = parts.first {
            settings.adapters = TrainedAdapters(
                try #require(Adapter.Kind(rawValue: String(kind))), rank: try #require(Int(parts[1])),
                seed: settings.seed)
        }
        return settings
    }

    private func described(_ checkpoint: Checkpoint) throws -> ModelDescription {
        let configuration = try #require(try ModelConfiguration(beside: checkpoint))
        guard
            case .model(let description)? = try ModelRecognition.recognize(checkpoint, configuration: configuration)
        else { throw CheckpointError(.unsupported, path: checkpoint.path, "not recognised") }
        return description
    }

    /// Hands on a run of a student that is made for it.
    private func distilling<Element: Real>(
        _ fixture: Case, as _: Element.Type, _ body: (inout Distillation<Element>) throws -> Void
    ) throws {
        let teacher = try Checkpoint.open(Repository.fixture("planted-teacher"))
        let description = try described(teacher)
        let target = try #require(ArchitectureRegistry.target(named: fixture.target))
        let kept = Set(fixture.kept.split(separator: ",").compactMap { Int($0) })
        var plan = try #require(
            LayerPlan(of: description, target: target, LayerSelection(kept, reason: "test"), seed: 1))
        if kept.contains(0) { plan.switches.firstValues = .layer0 }
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "student").path(percentEncoded: false)
            let source = ConversionInput(
                teacher, model: description, configuration: try ModelConfiguration(beside: teacher))
            let options = ConversionOptions(to: .directory(path: path, shardByteCount: 1 << 30))
            _ = try Conversion(of: source, plan: plan, options: options)
                .write(replaces: false, threads: 2, planHash: nil, version: "test")
            let student = try Checkpoint.open(path)
            let tokens = try TokenSequences(contentsOf: Repository.fixture("distillation/tokens.npy"))
            var distillation = try Distillation(
                Model<Element>(teacher, description), student, described(student), tokens,
                settings(fixture, Element.self))
            try body(&distillation)
        }
    }

    /// How far losses, rates and norms are off, relatively.
    private func error<Element: Real>(_ fixture: Case, as type: Element.Type) throws -> Double {
        let kernels = try #require(Kernels<Element>(.fast, threads: 2))
        var worst = 0.0
        func compare(_ found: Double, _ expected: Double) {
            worst = max(worst, abs(found - expected) / abs(expected))
        }
        try distilling(fixture, as: type) { distillation in
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

    @Test("steps are an independent implementation's", arguments: cases)
    func steps(_ fixture: Case) throws {
        #expect(try error(fixture, as: Double.self) < 1e-7)
        #expect(try error(fixture, as: Float.self) < 1e-4)
    }

    @Test("a run that is stopped is as it was in front of the step, and what takes too much memory does not begin")
    func stopped() throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        for name in ["alignment", "divergence"] {
            try distilling(try #require(Self.cases.first { $0.name == name }), as: Float.self) { distillation in
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

    @Test("threads do not show")
    func threads() throws {
        let fixture = try #require(Self.cases.first { $0.name == "divergence beside attention" })
        let weights = try [1, 2].map { threads in
            let kernels = try #require(Kernels<Float>(.fast, threads: threads))
            var weights: [[Float]] = []
            try distilling(fixture, as: Float.self) { distillation in
                while !distillation.isDone { _ = try distillation.next(kernels) }
                weights = distillation.student.parameters.map(\.values.array)
            }
            return weights
        }
        #expect(weights[0] == weights[1])
    }

    @Test(
        "a run that was stopped and resumed is one that was not",
        arguments: ["alignment", "divergence, joined, accumulated", "alignment with DoRA", "divergence with Bone"])
    func resumed(_ name: String) throws {
        let fixture = try #require(Self.cases.first { $0.name == name })
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        try withTemporaryDirectory { directory in
            let place = directory.appending(path: "run").path(percentEncoded: false)
            func saved() throws -> [Data] {
                let names = fixture.text("train-adapter") == nil ? [] : ["adapter/adapter_model.safetensors"]
                return try (["model.safetensors"] + names).map {
                    try Data(contentsOf: directory.appending(path: "run/\($0)"))
                }
            }
            var whole: [Data]?
            var log = DistillationLog()
            try distilling(fixture, as: Float.self) { distillation in
                for _ in 0..<2 { try log.add(distillation.next(kernels), tokens: 192, seconds: 0.25) }
                let teacher = try Checkpoint.open(Repository.fixture("planted-teacher"))
                let tokens = try TokenSequences(contentsOf: Repository.fixture("distillation/tokens.npy"))
                let model = try Model<Float>(teacher, described(teacher))
                try log.add(
                    HeldOut(model, distillation.student.model, tokens, kernels), behind: 2, path: "tokens.npy")
                try distillation.save(to: place, log: log, replaces: false)
                let state = directory.appending(path: "run/training.safetensors").path(percentEncoded: false)
                #expect(FileManager.default.fileExists(atPath: state))
                let student = try Checkpoint.open(place)
                var other = try Distillation<Float>(
                    model, student, described(student), tokens, settings(fixture, Float.self))
                #expect(try other.resume(from: place, kernels) == log)
                let fewer = try TokenSequences(Array(tokens.sequences.dropLast()), path: "fewer")
                var foreign = try Distillation<Float>(
                    model, student, described(student), fewer, settings(fixture, Float.self))
                let error = #expect(throws: CheckpointError.self) { try foreign.resume(from: place, kernels) }
                #expect(error?.reason.contains("other tokens") == true)
                for _ in 2..<5 { #expect(try other.next(kernels) == distillation.next(kernels)) }
                try other.save(to: place, log: log, replaces: true)
                let resumed = try saved()
                #expect(!FileManager.default.fileExists(atPath: state))
                try distillation.save(to: place, log: log, replaces: true)
                whole = try saved()
                #expect(resumed == whole)
            }
            #expect(whole != nil)
        }
    }

    @Test("adapters that are merged are what was trained", arguments: cases.filter { $0.text("train-adapter") != nil })
    func merged(_ fixture: Case) throws {
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        try distilling(fixture, as: Float.self) { distillation in
            let steps = try (0..<5).map { _ in try distillation.next(kernels) }
            #expect(steps[4].loss < steps[0].loss)
            try withTemporaryDirectory { directory in
                let run = directory.appending(path: "run").path(percentEncoded: false)
                let whole = directory.appending(path: "whole").path(percentEncoded: false)
                try distillation.save(to: run, log: DistillationLog(), replaces: false)
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
                        against: .model(distillation.student.model),
                        on: .seeded(vocabulary: distillation.student.model.vocabulary), kernels
                    ).verdict
                }
                #expect(try verdict(of: merged) == .match)
                #expect(try verdict(of: base) == .differs)
            }
        }
    }

    @Test("held-out tokens")
    func heldOut() throws {
        struct Expected: Decodable {
            let kl, top1, recall, teacher_recall, recall_of_known: Double
            let queries, tokens: Int
        }
        let expected = try Repository.json("distillation/held-out.json", as: Expected.self)
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        let teacher = try Checkpoint.open(Repository.fixture("planted-teacher"))
        let tokens = try TokenSequences(contentsOf: Repository.fixture("distillation/tokens.npy"))
        let fixture = try #require(Self.cases.first { $0.name == "alignment" })
        try distilling(fixture, as: Float.self) { distillation in
            let found = try HeldOut(
                Model(teacher, described(teacher)), distillation.student.model, tokens, kernels)
            #expect(found.tokenCount == expected.tokens && found.recall.count == expected.queries)
            #expect(abs(found.divergence - expected.kl) < 1e-5 * expected.kl)
            // One token may be nearly as likely as another.
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
        "logs that no run wrote",
        arguments: [
            (#""step": 1,"#, #""step": 2,"#), (#""step": 2, "path""#, #""step": 5000, "path""#),
            (#""index": 0"#, #""index": -3"#), (#""index": 0"#, #""index": 99999999999999"#), ("}\n", "}"),
            (#""loss""#, #""lost""#),
        ])
    func damagedLogs(_ old: String, _ new: String) throws {
        let fixture = try #require(Self.cases.first { $0.name == "alignment" })
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        try distilling(fixture, as: Float.self) { distillation in
            var log = DistillationLog()
            for _ in 0..<2 { try log.add(distillation.next(kernels), tokens: 192, seconds: 0.25) }
            let seen = HeldOut(
                tokenCount: 1, divergence: 1, agreement: 1, recall: .init(count: 0, teacher: 0, student: 0, both: 0))
            try log.add(seen, behind: 2, path: "tokens.npy")
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

    @Test("windows are passed over as they are taken")
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

    @Test("runs of other settings are not resumed")
    func otherSettings() throws {
        let fixture = try #require(Self.cases.first { $0.name == "alignment" })
        let kernels = try #require(Kernels<Float>(.fast, threads: 2))
        try withTemporaryDirectory { directory in
            let place = directory.appending(path: "run").path(percentEncoded: false)
            try distilling(fixture, as: Float.self) { distillation in
                _ = try distillation.next(kernels)
                try distillation.save(to: place, log: DistillationLog(), replaces: false)
            }
            let other = try #require(Self.cases.first { $0.name == "alignment, joined" })
            try distilling(other, as: Float.self) { distillation in
                #expect(throws: CheckpointError.self) { try distillation.resume(from: place, kernels) }
            }
        }
    }
}
