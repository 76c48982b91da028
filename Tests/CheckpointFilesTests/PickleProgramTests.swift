import Bytes
import CheckpointJSON
import Foundation
import TestSupport
import Testing

@testable import CheckpointFiles

/// Compares the results of our reader for pickle programs with the results of CPython's two unpicklers.
///
/// The environment variable RWKV_CKPT_PICKLE_PROGRAMS can name a larger corpus, which fixtures/make_pickle_programs.py
/// writes with `--all`.
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

    /// MEMOIZE uses the number of memo entries as the index, which is 1 if the only entry is at index 1.
    @Test func numbersMemoEntriesByTheirCount() throws {
        let alpha = "5805000000616c706861" + "7101" + "30"
        let beta = "580400000062657461" + "94" + "30"
        let meaning = try Self.run([UInt8](hexadecimal: alpha + beta + "68012e"))
        #expect(meaning.text == "text \"beta\"\nglobals")
    }

    /// The bytes of a text line are Latin-1, so decoding them as UTF-8 would give a different string.
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

    /// In CPython, each of these pickles results in a dictionary or set with a single entry.
    @Test(arguments: [
        "7d28580100000061 4e 580100000061 4e 752e", "7d284b014e884e752e", "7d284b014e473ff00000000000004e752e",
        "7d284b01854e4b01854e752e", "8f28580100000061550161902e", "7d4e4e734e4e732e",
    ]) func refusesEqualKeys(pickle: String) {
        let error = #expect(throws: MalformedInput.self) {
            try Self.run([UInt8](hexadecimal: pickle.filter { $0 != " " }))
        }
        #expect(error?.problem.contains("twice") == true, "\(String(describing: error))")
    }

    /// A key is hashed only once, even if many containers refer to it.
    @Test(arguments: [("}(", "N", "u"), ("\u{8F}(", "", "\u{90}")]) func takesKeysThatManyContainersShare(
        begin: String, value: String, end: String
    ) throws {
        let bytes = { (text: String) in text.unicodeScalars.map { UInt8($0.value) } }
        var pickle = bytes("](")
        for container in 0..<100 {
            pickle += bytes(begin)
            for number in 0..<200 {
                if container == 0 {
                    pickle += bytes("X\u{64}\0\0\0" + String(repeating: "k", count: 97) + "\(100 + number)q")
                } else {
                    pickle += bytes("h")
                }
                pickle += [UInt8(number)] + bytes(value)
            }
            pickle += bytes(end)
        }
        _ = try Self.run(pickle + bytes("e."))
    }

    @Test(arguments: [
        ("a tuple of 2000 values", "7d28" + String(repeating: "4b01", count: 2000) + "744e732e"),
        ("a tuple of itself twice, 1000 deep", "7d29" + String(repeating: "3286", count: 1000) + "4e732e"),
        ("a frozen set beside a text", "8f28 284b0191 580100000061 902e"),
        ("two frozen sets", "8f28 284b0191 284b0291 902e"),
        ("1e30 beside 2.0", "8f28 4746293e5939a08cea 474000000000000000 902e"),
        ("two NaNs", "8f28 477ff8000000000000 477ff8000000000000 902e"),
        ("2^100 beside 2^99", "8f28 8a0d00000000000000000000000010 8a0d00000000000000000000000008 902e"),
        ("2^100 beside 1e30", "8f28 8a0d00000000000000000000000010 4746293e5939a08cea 902e"),
        ("-2^100 as an integer beside 2^100 as a float", "8f28 8a0d000000000000000000000000f0 474630000000000000 902e"),
        ("a decimal long integer beside 1", "8f28 4c313030303030303030303030303030303030303030304c0a 4b01 902e"),
        ("a text in Latin-1 beside 1", "8f28 56e90a 4b01 902e"),
        ("a tuple with a text in Latin-1 beside a text", "8f28 56e90a85 580100000061 902e"),
    ]) func takesKeysThatDiffer(title: String, pickle: String) throws {
        _ = try Self.run([UInt8](hexadecimal: pickle.filter { $0 != " " }))
    }

    @Test(arguments: [
        ("a frozen set in another order", "8f28 284b014b0291 284b024b0191 902e", "twice"),
        ("a NaN of the memo", "8f28 477ff80000000000007100 6800 902e", "twice"),
        ("2^100 as an integer and a float", "8f28 8a0d00000000000000000000000010 474630000000000000 902e", "twice"),
        ("-2^100 as an integer and a float", "8f28 8a0d000000000000000000000000f0 47c630000000000000 902e", "twice"),
        ("2^64 - 2^11 as an integer and a float", "8f28 8a0900f8ffffffffffff00 4743efffffffffffff 902e", "twice"),
        (
            "two decimal long integers",
            "8f28 4c313030303030303030303030303030303030303030304c0a 4c323030303030303030303030303030303030303030304c0a 902e",
            "cannot tell"
        ),
        ("a text in Latin-1 beside a text", "8f28 56e90a 580100000061 902e", "cannot tell"),
        ("tuples of these", "8f28 56e90a85 58010000006185 902e", "cannot tell"),
    ]) func refusesKeysThatMayBeEqual(title: String, pickle: String, words: String) {
        let error = #expect(throws: MalformedInput.self) {
            try Self.run([UInt8](hexadecimal: pickle.filter { $0 != " " }))
        }
        #expect(error?.problem.contains(words) == true, "\(title): \(String(describing: error))")
    }

    @Test(arguments: [
        "argparse.Namespace", "types.SimpleNamespace", "collections.ChainMap", "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
    ]) func refusesResultsWithoutHashAsKeys(name: String) throws {
        let point = try #require(name.lastIndex(of: "."))
        let global = "c\(name[..<point])\n\(name[name.index(after: point)...])\n"
        let error = #expect(throws: MalformedInput.self) { try Self.run(Array("}\(global))RNs.".utf8)) }
        #expect(error?.problem.contains("not hashable") == true, "\(String(describing: error))")
    }

    /// A container that is passed by reference can change later, such as a list that contains an object created from
    /// the list.
    @Test(arguments: [
        ("keywords of two objects", "7d58010000006b4b0173 7100 30 28 63610a420a 29 6800 92 63610a420a 29 6800 92 742e"),
        ("a list that a call takes", "5d 7100 28 63610a420a 6800 85 52 652e"),
        ("a list in a state", "5d 7100 28 63610a420a 29 81 6800 4b01 86 62 652e"),
        ("a list that is a state", "5d 7100 28 63610a420a 29 81 6800 62 652e"),
        ("a dictionary in a state that is not a pair", "7d 7100 4b01 63610a420a 29 81 6800 4b01 86 62 732e"),
        ("a keyword in Latin-1", "63610a420a 29 7d 56e90a 4b01 73 92 2e"),
    ]) func takesContainersThatChangeByReference(title: String, pickle: String) throws {
        _ = try Self.run([UInt8](hexadecimal: pickle.filter { $0 != " " }))
    }

    @Test(arguments: [
        (
            "a list that an OrderedDict takes",
            "5d 7100 28 63636f6c6c656374696f6e730a4f726465726564446963740a 6800 85 52 652e"
        ),
        ("a list that a function of torch takes", "5d 7100 28 63746f7263682e610a420a 6800 85 52 652e"),
        ("attributes", "7d 7100 4b01 63610a420a 29 81 6800 62 732e"),
        ("attributes and slots", "7d 7100 4b01 63610a420a 29 81 4e 6800 86 62 732e"),
        ("keywords", "7d 7100 580100000061 63610a420a 29 6800 92 732e"),
    ]) func refusesChangesOfWhatWasCopied(title: String, pickle: String) {
        let error = #expect(throws: MalformedInput.self) {
            try Self.run([UInt8](hexadecimal: pickle.filter { $0 != " " }))
        }
        #expect(
            error?.problem == "the pickle changes a container after passing it to a call or an object",
            "\(title): \(String(describing: error))")
    }
}
