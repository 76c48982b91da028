import CheckpointFiles
import CheckpointJSON
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

/// A model of fixtures/logits, with the logits that an independent implementation gave in float64.
struct LogitsCase: CustomTestStringConvertible, Sendable {
    let name: String
    let model: String
    let configuration: String?
    let reference: String
    var testDescription: String { name }

    static let all: [LogitsCase] = {
        let index = try? JSONValue(contentsOf: Repository.fixture("logits/index.json"))
        return (index?.array ?? []).map { entry in
            let directory = "logits/\(entry["model"]?.string ?? "")/"
            return LogitsCase(
                name: entry["name"]?.string ?? "", model: directory + (entry["file"]?.string ?? ""),
                configuration: entry["config"]?.string.map { directory + $0 },
                reference: directory + (entry["reference"]?.string ?? ""))
        }
    }()

    func load<Element: Real>(as type: Element.Type) throws -> Model<Element> {
        let checkpoint = try Checkpoint.open(Repository.fixture(model))
        let configuration = try configuration.map { try ModelConfiguration(path: Repository.fixture($0)) }
        let recognition = try ModelRecognition.recognize(checkpoint, configuration: configuration)
        guard case .model(let description)? = recognition else {
            throw CheckpointError(.unsupported, path: model, "not recognised")
        }
        return try Model(checkpoint, description)
    }

    /// Two sequences, and their logits.
    func recorded() throws -> [(tokens: [Int], logits: [Double])] {
        let checkpoint = try Checkpoint.open(Repository.fixture(reference))
        let tokens: [Int64] = try checkpoint.numbers("tokens")
        let logits: [Double] = try checkpoint.numbers("logits")
        return (0..<2).map { sequence in
            let (tokenCount, logitCount) = (tokens.count / 2, logits.count / 2)
            return (
                tokens[sequence * tokenCount..<(sequence + 1) * tokenCount].map { Int($0) },
                Array(logits[sequence * logitCount..<(sequence + 1) * logitCount])
            )
        }
    }
}

extension Checkpoint {
    func numbers<Number: BitwiseCopyable>(_ name: String) throws -> [Number] {
        let tensor = try #require(self.tensor(named: name))
        let count = tensor.byteCount / MemoryLayout<Number>.size
        return try [Number](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            var span = MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(buffer))
            try read(tensor, at: 0, into: &span)
            initializedCount = count
        }
    }
}

/// The mean squared difference, by the variance of the reference.
func normalisedError(_ values: some Collection<some Real>, _ reference: [Double]) -> Double {
    let mean = reference.reduce(0, +) / Double(reference.count)
    let squares = zip(values, reference).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    return squares / reference.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
}

struct LogitsTests {
    @Test("logits are an independent implementation's", arguments: LogitsCase.all, KernelTable.allCases)
    func logits(_ fixture: LogitsCase, _ table: KernelTable) throws {
        let inFloats = try error(fixture, table, as: Float.self)
        #expect(inFloats < 1e-11)
        // Angles are fp32 as transformers', whose powers of theta are a last bit off here and there.
        let inDoubles = try error(fixture, table, as: Double.self)
        #expect(inDoubles < 1e-13)
    }

    private func error<Element: Real>(
        _ fixture: LogitsCase, _ table: KernelTable, as type: Element.Type
    ) throws -> Double {
        let model = try fixture.load(as: type)
        let kernels = try #require(Kernels<Element>(table, threads: 1))
        var logits: [Element] = []
        var reference: [Double] = []
        for sequence in try fixture.recorded() {
            var state = model.start(length: sequence.tokens.count)
            let hidden = try model.hidden(sequence.tokens, &state, kernels)
            logits += try model.logits(hidden, kernels).array
            reference += sequence.logits
        }
        #expect(logits.count == reference.count && !logits.isEmpty)
        return normalisedError(logits, reference)
    }
}
