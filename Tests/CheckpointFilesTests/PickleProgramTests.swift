import CheckpointJSON
import Foundation
import TestSupport
import Testing

@testable import CheckpointFiles

/// Pickle programs against what CPython's two unpicklers make of them.
///
/// The environment's RWKV_CKPT_PICKLE_PROGRAMS names a larger corpus, which fixtures/make_pickle_programs.py writes with `--all`.
@Suite struct PickleProgramTests {
    private struct Corpus: Decodable {
        let programs: [Program]
    }

    private struct Program: Decodable {
        let pickle: String
        let meaning: Meaning
    }

    private enum Meaning: Decodable {
        case both(String)
        case refused
        case different

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .refused
            } else if let text = try? container.decode(String.self) {
                self = .both(text)
            } else {
                self = .different
            }
        }
    }

    private static func run(_ pickle: [UInt8]) throws(MalformedInput) -> PickleMeaning {
        PickleMeaning(try PickleMachine.run(pickle, valueBytes: ReadLimits.standard.pickledValueBytes))
    }

    @Test func agreesWithPythonOrRefuses() throws {
        let path = ProcessInfo.processInfo.environment["RWKV_CKPT_PICKLE_PROGRAMS"]
        let file = path.map { URL(filePath: $0) } ?? URL(filePath: Repository.fixture("pickle-programs.json"))
        let programs = try JSONDecoder().decode(Corpus.self, from: Data(contentsOf: file)).programs
        var (agreed, loading, different) = (0, 0, 0)
        var reasons: [String: Int] = [:]
        var disagreements: [String] = []
        for program in programs {
            var refusal: String?
            var ours: PickleMeaning?
            do throws(MalformedInput) {
                ours = try Self.run([UInt8](hexadecimal: program.pickle))
            } catch {
                refusal = error.problem
            }
            switch program.meaning {
            case .both(let expected):
                loading += 1
                if let refusal {
                    reasons[refusal.filter { !$0.isNumber }, default: 0] += 1
                } else if let ours, ours.agrees(with: expected) {
                    agreed += 1
                } else {
                    disagreements.append("\(program.pickle)\nours:\n\(ours?.text ?? "")\nCPython:\n\(expected)")
                }
            case .refused, .different:
                if case .different = program.meaning { different += 1 }
                guard let ours else { continue }
                disagreements.append("\(program.pickle)\nours:\n\(ours.text)\nCPython: \(program.meaning)")
            }
        }
        for disagreement in disagreements.prefix(10) { Issue.record("\(disagreement)") }
        #expect(disagreements.count == 0)
        #expect(programs.count >= 500 && different >= 10 && agreed * 2 > loading)
        guard path != nil else { return }
        print("\(programs.count) programs, \(loading) load, we agree on \(agreed) and refuse \(loading - agreed);")
        print("\(different) mean two things to Python; \(disagreements.count) disagreements")
        for (reason, count) in reasons.sorted(by: { $0.value > $1.value }) { print(count, reason) }
    }

    /// MEMOIZE puts at the number of entries, which is 1 where the only entry is at 1.
    @Test func numbersMemoEntriesByTheirCount() throws {
        let alpha = "5805000000616c706861" + "7101" + "30"
        let beta = "580400000062657461" + "94" + "30"
        let meaning = try Self.run([UInt8](hexadecimal: alpha + beta + "68012e"))
        #expect(meaning.text == "text \"beta\"\nglobals")
    }

    /// The bytes of a line are Latin-1, of which UTF-8 would make something else.
    @Test func keepsLinesBeyondASCIIWithoutDecodingThem() throws {
        #expect(try Self.run([UInt8](hexadecimal: "56c3a90a2e")).text == "text ?\nglobals")
        #expect(try Self.run([UInt8](hexadecimal: "56650a2e")).text == "text \"e\"\nglobals")
    }

    @Test(arguments: [
        ("a list in SETITEM", "7d5d4e732e"), ("a dictionary in SETITEMS", "7d287d4e752e"),
        ("a set in DICT", "288f4e642e"), ("a list in ADDITEMS", "8f285d902e"),
        ("a bytearray in FROZENSET", "28960000000000000000912e"),
        ("a tuple with a list", "7d5d854e732e"), ("a tuple in a tuple with a list", "7d5d85854e732e"),
        ("an OrderedDict", "7d63636f6c6c656374696f6e730a4f726465726564446963740a29524e732e"),
    ]) func refusesKeysWithoutHash(title: String, pickle: String) {
        let error = #expect(throws: MalformedInput.self) { try Self.run([UInt8](hexadecimal: pickle)) }
        #expect(error?.problem.contains("not hashable") == true, "\(title): \(String(describing: error))")
    }

    /// Each is in CPython a dictionary or set of one entry.
    @Test(arguments: [
        "7d28580100000061 4e 580100000061 4e 752e", "7d284b014e884e752e", "7d284b014e473ff00000000000004e752e",
        "7d284b01854e4b01854e752e", "8f28580100000061550161902e", "7d4e4e734e4e732e",
    ]) func refusesEqualKeys(pickle: String) {
        let error = #expect(throws: MalformedInput.self) {
            try Self.run([UInt8](hexadecimal: pickle.filter { $0 != " " }))
        }
        #expect(error?.problem.contains("twice") == true, "\(String(describing: error))")
    }
}
