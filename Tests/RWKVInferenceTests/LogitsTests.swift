import Bytes
import CheckpointFiles
import CheckpointJSON
import Foundation
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

@testable import ModelFamilies

/// A model in fixtures, with logits computed in float64 by an independent implementation.
struct LogitsCase: CustomTestStringConvertible, Sendable {
    let name: String
    let model: String
    let configuration: String?
    let reference: String
    var testDescription: String { name }

    static let all =
        ["logits", "decoders", "decoder-students", "eagle-finch", "hxa07", "radlads", "arwkv"].flatMap(index)

    static func index(_ root: String) -> [LogitsCase] {
        guard let index = try? JSONValue(contentsOf: Repository.fixture("\(root)/index.json")).array else {
            fatalError("fixtures/\(root)/index.json cannot be read")
        }
        return index.map { entry in
            let directory = "\(root)/\(entry["model"]?.string?.text ?? "")/"
            return LogitsCase(
                name: entry["name"]?.string?.text ?? "", model: directory + (entry["file"]?.string?.text ?? ""),
                configuration: entry["config"]?.string.map { directory + $0.text },
                reference: directory + (entry["reference"]?.string?.text ?? ""))
        }
    }

    func load<Element: Real>(as type: Element.Type) throws -> Model<Element> {
        let checkpoint = try Checkpoint.open(Repository.fixture(model))
        let configuration = try configuration.map { try ModelConfiguration(path: Repository.fixture($0)) }
        let recognition = try ModelRecognition.recognize(checkpoint, configuration: configuration)
        guard case .model(let description)? = recognition else {
            throw CheckpointError(.unsupported, path: model, "not recognised")
        }
        return try Model(checkpoint, description)
    }

    /// Returns the recorded sequence and its logits.
    func recorded() throws -> (tokens: [Int], logits: [Double]) {
        let checkpoint = try Checkpoint.open(Repository.fixture(reference))
        let tokens: [Int64] = try checkpoint.numbers("tokens")
        return (tokens.map { Int($0) }, try checkpoint.numbers("logits"))
    }
}

struct LogitsTests {
    @Test("logits agree with an independent implementation", arguments: LogitsCase.all, KernelTable.allCases)
    func logits(_ fixture: LogitsCase, _ table: KernelTable) throws {
        let inFloats = try error(fixture, table, as: Float.self)
        #expect(inFloats < 1e-11)
        // Angles are computed in fp32, as in transformers, whose powers of theta sometimes differ from ours in the last
        // bit.
        let inDoubles = try error(fixture, table, as: Double.self)
        #expect(inDoubles < 1e-13)
    }

    @Test("weights and biases that are fused give the same logits")
    func fusedBiases() throws {
        var toy = Architecture.llama
        let fused = ["weight", "bias"].map { "model.layers.#.self_attn.qkv_proj.\($0)" }
        let weights: [TensorRole] = [.queryWeight, .keyWeight, .valueWeight]
        let biases: [TensorRole] = [.queryBias, .keyBias, .valueBias]
        let names = weights.map { ($0, fused[0]) } + biases.map { ($0, fused[1]) }
        toy.layouts = [.huggingFace.naming(Dictionary(uniqueKeysWithValues: names), fused: [weights, biases])]
        var model = try EditableModel(fixture: "logits/llama-bias")
        for layer in 0..<3 {
            for end in ["weight", "bias"] {
                let prefix = "model.layers.\(layer).self_attn."
                let own = ["q", "k", "v"].map { "\(prefix)\($0)_proj.\(end)" }
                let rows = own.reduce(0) { $0 + (model.shapes[$1]?[0] ?? 0) }
                let shape = end == "bias" ? [rows] : [rows, 32]
                model.add("\(prefix)qkv_proj.\(end)", shape, own.flatMap { model[$0] })
                own.forEach { model.remove($0) }
            }
        }
        try withTemporaryDirectory { directory in
            try model.write(to: directory)
            let checkpoint = try Checkpoint.open(directory.path)
            let recognition = try ModelRecognition.recognize(
                checkpoint, configuration: ModelConfiguration(beside: checkpoint), among: [toy])
            guard case .model(let description)? = recognition else {
                throw CheckpointError(.unsupported, path: directory.path, "not recognised")
            }
            #expect(description.findings.isEmpty && checkpoint.tensors.count == 3 * 9 + 3)
            let loaded = try Model<Float>(checkpoint, description)
            let kernels = try #require(Kernels<Float>(.fast, threads: 1))
            let fixture = try #require(LogitsCase.all.first { $0.name == "llama-bias" })
            let (tokens, reference) = try fixture.recorded()
            var state = loaded.start(length: tokens.count)
            let logits = try loaded.logits(try loaded.hidden(tokens, &state, kernels), kernels).array
            #expect(normalisedError(logits, reference) < 1e-11)
            #expect(
                try loaded.numbers(of: TensorPlace(role: .keyBias, layer: 1))
                    == EditableModel(fixture: "logits/llama-bias")["model.layers.1.self_attn.k_proj.bias"])
            let bias = try #require(checkpoint.tensors.first { $0.name == "model.layers.1.self_attn.qkv_proj.bias" })
            #expect(bias.rows(32..<48)?.shape == [16] && bias.rows(32..<65) == nil)
        }
    }

    private func error<Element: Real>(
        _ fixture: LogitsCase, _ table: KernelTable, as type: Element.Type
    ) throws -> Double {
        let model = try fixture.load(as: type)
        let kernels = try #require(Kernels<Element>(table, threads: 1))
        let (tokens, reference) = try fixture.recorded()
        var state = model.start(length: tokens.count)
        let logits = try model.logits(try model.hidden(tokens, &state, kernels), kernels).array
        #expect(logits.count == reference.count && !logits.isEmpty)
        return normalisedError(logits, reference)
    }
}
