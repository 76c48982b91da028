import Bytes
import CheckpointFiles
import ModelFamilies
import TestSupport
import Testing

/// The properties of the models in fixtures/models, as recorded by fixtures/make_models.py.
struct ExpectedModels: Decodable {
    struct Model: Decodable, CustomTestStringConvertible {
        struct Rope: Decodable {
            let rope_type: String
            let rope_theta: Double
            let factor: Double?
        }
        let path: String
        let config: String?
        let family, layout: String
        let variant: String?
        let kinds: [String]
        let dimensions: [String: Int]
        let ranks: [String: Int]?
        let tied: Bool
        let rope: Rope?
        let epsilon: Double?
        let parameters: Int
        let records: Int?
        let missing: [String]?
        let unknown_without_config: [String]

        var testDescription: String { path }
    }
    let models: [String: Model]

    static let all =
        (try? Repository.json("models/expected.json", as: ExpectedModels.self))?.models.values.sorted {
            $0.path < $1.path
        }
        ?? []
}

private let dimensions: [String: ModelDimension] = [
    "vocabulary": .vocabulary, "width": .width, "heads": .heads, "kv_heads": .keyValueHeads, "head_size": .headSize,
    "feed_forward": .feedForwardWidth, "decay": .decayRank, "iclr": .iclrRank, "value_residual": .valueResidualRank,
    "key_residual": .keyResidualRank, "gate": .gateRank,
]

@Suite struct ModelFamiliesTests {
    @Test func hasModelsToTest() { #expect(ExpectedModels.all.count == 16) }

    private func description(
        _ model: ExpectedModels.Model, configuration: ModelConfiguration?
    ) throws -> ModelDescription {
        let checkpoint = try Checkpoint.open(Repository.fixture("models/" + model.path))
        let recognition = try ModelRecognition.recognize(checkpoint, configuration: configuration)
        guard case .model(let description) = recognition else {
            throw TestFailure("\(model.path) is \(String(describing: recognition))")
        }
        return description
    }

    private func check(_ found: ModelDescription, _ model: ExpectedModels.Model, unknown: Set<ModelDimension>) throws {
        #expect(found.architecture.family == model.family)
        #expect(found.variant == model.variant)
        #expect(found.layout?.name == model.layout)
        #expect(found.kinds.map(\.rawValue) == model.kinds)
        for (name, size) in model.dimensions.merging(model.ranks ?? [:], uniquingKeysWith: { $1 }) {
            let dimension = try #require(dimensions[name])
            #expect(found.dimensions[dimension] == (unknown.contains(dimension) ? nil : size), "\(name)")
        }
        #expect(found.hasTiedHead == model.tied)
        #expect(found.findings.compactMap(\.tensor).sorted() == model.missing ?? [], "\(found.findings)")
        #expect(found.findings.allSatisfy { $0.kind == .missing }, "\(found.findings)")
        #expect(found.quantisation == nil && !found.evidence.isEmpty)
    }

    @Test(arguments: ExpectedModels.all)
    func knowsEveryDimensionFromConfigurationAndTensors(model: ExpectedModels.Model) throws {
        let configuration =
            try model.config.map { try ModelConfiguration(path: Repository.fixture("models/" + $0)) }
            ?? ModelConfiguration(beside: Checkpoint.open(Repository.fixture("models/" + model.path)))
        let found = try description(model, configuration: configuration)
        try check(found, model, unknown: [])
        #expect(found.epsilon == model.epsilon)
        #expect(found.rotary?.theta == model.rope?.rope_theta && found.rotary?.type.text == model.rope?.rope_type)
        #expect(found.rotary?.parameters["factor"] == model.rope?.factor)
        #expect(found.unknown.isEmpty, "\(found.unknown)")
        #expect(found.parameterCounts?.values.reduce(0, +) == model.parameters)
    }

    @Test(arguments: ExpectedModels.all)
    func knowsEveryDimensionThatTensorsShow(model: ExpectedModels.Model) throws {
        let found = try description(model, configuration: nil)
        let unknown = Set(model.unknown_without_config.compactMap { dimensions[$0] })
        try check(found, model, unknown: unknown)
        #expect(Set(unknown.map(\.title)).isSubset(of: found.unknown))
        #expect(found.unknown.contains("rope_theta") == (model.rope != nil && model.variant != "cxa076"))
        #expect(found.epsilon == (model.family == "rwkv7" ? 1e-5 : nil) && found.rotary == nil)
    }

    @Test(arguments: ["llama", "qwen3"])
    func readsTheKeysOfOlderVersions(name: String) throws {
        let model = try #require(ExpectedModels.all.first { $0.path == name })
        let configuration = try ModelConfiguration(path: Repository.fixture("models/\(name)/config-4.51.json"))
        let found = try description(model, configuration: configuration)
        try check(found, model, unknown: [])
        #expect(found.rotary?.theta == model.rope?.rope_theta && found.rotary?.type.text == model.rope?.rope_type)
        #expect(found.rotary?.parameters["factor"] == model.rope?.factor)
    }

    @Test(arguments: ["fp8", "gptq", "awq", "bitsandbytes"])
    func namesQuantisedWeights(method: String) throws {
        let path = Repository.fixture("models/quantised-\(method)")
        let checkpoint = try Checkpoint.open(path)
        for configuration in [nil, try ModelConfiguration(beside: checkpoint)] {
            guard case .model(let found) = try ModelRecognition.recognize(checkpoint, configuration: configuration)
            else {
                Issue.record("\(method) is not recognised")
                continue
            }
            #expect(found.architecture.family == "qwen3" && found.quantisation?.method == method)
            #expect(found.findings.isEmpty, "\(found.findings)")
        }
    }
}

struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
