import Bytes
import CheckpointConversion
import CheckpointFiles
import Foundation
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing
import TokenFiles

@testable import LayerPlanning
@testable import RWKVDistillation

/// A distillation run, with the results of its steps as computed in float64 by an independent implementation.
struct DistillationCase: Decodable, Sendable, CustomTestStringConvertible {
    struct Step: Decodable {
        let loss: Double
        let layers: [Double]?
        let learning_rate: Double
        let gradient_norm: Double
    }

    static let teacher = Repository.fixture("planted-teacher")
    static let tokens = Repository.fixture("distillation/tokens.npy")
    static let all = (try? Repository.json("distillation/steps.json", as: [DistillationCase].self)) ?? []
    /// The cases with teachers that do not have Llama's architecture.
    static let ofDecoders =
        (try? Repository.json("distillation/decoder-steps.json", as: [DistillationCase].self)) ?? []

    static func named(_ name: String) throws -> DistillationCase { try #require(all.first { $0.name == name }) }

    let name: String
    /// The name of the teacher's directory in fixtures/decoders; nil for the planted teacher.
    let teacher: String?
    let target: String
    let kept: String
    /// Whether the layers that remain attention use RoPE; nil for the target's default.
    let gqa_rope: Bool?
    let options: [String: Option]
    let steps: [Step]
    var testDescription: String { name }

    func text(_ option: String) -> String? { options[option]?.text }
    func number(_ option: String) -> Double? { text(option).flatMap { Double($0) } }

    /// The value of an option: a number or a string.
    struct Option: Decodable {
        let text: String

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            text = try (try? container.decode(String.self)) ?? "\(container.decode(Double.self))"
        }
    }

    func settings() throws -> DistillationSettings {
        func integer(_ option: String) -> Int { Int(number(option) ?? 1) }
        let isJoined = text("first-values") == "joined"
        let stage: DistillationSettings.Stage
        if integer("stage") == 1 {
            var alignment = Alignment()
            alignment.propagatesFirstValues = isJoined
            if let loss = text("layer-loss") { alignment.loss = try #require(AlignmentLoss(rawValue: loss)) }
            stage = .alignment(alignment)
        } else {
            var divergence = LogitDivergence()
            divergence.propagatesFirstValues = isJoined
            divergence.crossEntropyWeight = number("ce-weight") ?? 0
            divergence.divides = text("temperature-target") == "teacher" ? .teacher : .both
            let temperatures = (text("temperature") ?? "1").split(separator: ",").compactMap { Double($0) }
            stage = .divergence(divergence, temperatures: temperatures)
        }
        var rate = LearningRate(try #require(number("rate")))
        rate.warmUp = integer("warm-up")
        if let schedule = text("schedule") {
            rate.schedule = try #require(LearningRate.Schedule(rawValue: schedule))
        }
        var settings = DistillationSettings(stage, steps: integer("steps"), learningRate: rate)
        (settings.batch, settings.context) = (integer("batch"), integer("context"))
        (settings.accumulate, settings.seed) = (integer("accumulate"), UInt64(integer("seed")))
        if let scale = text("rate-scale")?.split(separator: "=") {
            var training = Training()
            training.weightDecay = try #require(number("weight-decay"))
            settings.rules = TrainingRules([.init("mixers", training)])
            training.rateScale = try #require(Double(scale[1]))
            settings.rules.rules.append(.init("*.\(scale[0])", training))
        }
        if let rule = text("train") { settings.rules = TrainingRules([.init(rule, Training())]) }
        if let parts = text("train-adapter")?.split(separator: ":"), let kind = parts.first {
            settings.adapters = TrainedAdapters(
                try #require(Adapter.Kind(rawValue: String(kind))), rank: try #require(Int(parts[1])),
                seed: settings.seed)
        }
        return settings
    }

    /// Converts the teacher into the case's student, and writes the student to a subdirectory of `directory`.
    func student(in directory: URL) throws -> Checkpoint {
        let teacher = try Checkpoint.open(teacherPath)
        let description = try described(teacher)
        let target = try #require(ArchitectureRegistry.target(named: target))
        let kept = Set(kept.split(separator: ",").compactMap { Int($0) })
        var plan = try #require(
            LayerPlan(
                of: description, target: target, LayerSelection(kept, reason: "test"), attentionUsesRoPE: gqa_rope,
                seed: 1
            ))
        if kept.contains(0) { plan.switches.firstValues = .layer0 }
        let path = directory.appending(path: "student").path(percentEncoded: false)
        let source = ConversionInput(
            teacher, model: description, configuration: try ModelConfiguration(beside: teacher))
        let options = ConversionOptions(to: .directory(path: path, shardByteCount: 1 << 30))
        _ = try Conversion(of: source, plan: plan, options: options)
            .write(replaces: false, threads: 2, planHash: nil, version: "test")
        return try Checkpoint.open(path)
    }

    /// Creates a distillation into a student; arguments that are nil default to those of the case.
    func distillation<Element: Real>(
        of student: Checkpoint, teacher: String? = nil, tokens: TokenSequences? = nil,
        _ settings: DistillationSettings? = nil
    ) throws -> Distillation<Element> {
        let teacher = try Checkpoint.open(teacher ?? teacherPath)
        return try Distillation(
            Model(teacher, described(teacher)), student, described(student),
            tokens ?? TokenSequences(contentsOf: tokensPath), settings ?? self.settings())
    }

    private var teacherPath: String { teacher.map { Repository.fixture("decoders/\($0)") } ?? Self.teacher }

    private var tokensPath: String {
        teacher == nil ? Self.tokens : Repository.fixture("distillation/decoder-tokens.npy")
    }

    /// Creates the case's student in a temporary directory, and passes a distillation into it to a closure.
    func distilling<Element: Real>(
        as _: Element.Type, _ body: (inout Distillation<Element>) throws -> Void
    ) throws {
        try withTemporaryDirectory { directory in
            var distillation: Distillation<Element> = try self.distillation(of: student(in: directory))
            try body(&distillation)
        }
    }
}

/// Returns the description of the model in a checkpoint.
func described(_ checkpoint: Checkpoint) throws -> ModelDescription {
    let configuration = try #require(try ModelConfiguration(beside: checkpoint))
    guard
        case .model(let description)? = try ModelRecognition.recognize(checkpoint, configuration: configuration)
    else { throw CheckpointError(.unsupported, path: checkpoint.path, "not recognised") }
    return description
}
