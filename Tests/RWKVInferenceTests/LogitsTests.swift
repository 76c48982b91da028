import Bytes
import CheckpointFiles
import CheckpointJSON
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

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
