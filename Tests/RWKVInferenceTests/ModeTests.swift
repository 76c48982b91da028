import Bytes
import CheckpointFiles
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing

/// Tests that all ways of running a model give the same logits.
struct ModeTests {
    private func logits(
        _ model: Model<Float>, _ tokens: [Int], _ state: inout Model<Float>.State, _ kernels: Kernels<Float>
    ) throws -> [Float] {
        try model.logits(try model.hidden(tokens, &state, kernels), kernels).array
    }

    @Test(
        "a sequence, its parts with the state restored, and single tokens give the same", arguments: LogitsCase.all,
        KernelTable.allCases)
    func modes(_ fixture: LogitsCase, _ table: KernelTable) throws {
        let model = try fixture.load(as: Float.self)
        let kernels = try #require(Kernels<Float>(table, threads: 2))
        let tokens = try fixture.recorded().tokens
        var state = model.start(length: tokens.count)
        let whole = try logits(model, tokens, &state, kernels)

        var parts = model.start(length: tokens.count)
        let half = tokens.count * 17 / 40
        let start = try logits(model, Array(tokens[..<half]), &parts, kernels)
        let saved = parts
        // The saved state can be restored after other tokens have been run.
        _ = try logits(model, Array(tokens[..<5]), &parts, kernels)
        #expect(parts != saved)
        parts = saved
        let split = start + (try logits(model, Array(tokens[half...]), &parts, kernels))

        var single = model.start(length: tokens.count)
        var one: [Float] = []
        for token in tokens { one += try logits(model, [token], &single, kernels) }

        #expect(normalisedError(split, whole.map(Double.init)) < 1e-11)
        #expect(normalisedError(one, whole.map(Double.init)) < 1e-11)
        #expect(state.position == single.position && state.position == tokens.count)
        if table == .strict {
            #expect(split == whole)
            #expect(one == whole)
            #expect(single == state)
        }
    }

    @Test("any number of threads gives the same bits", arguments: LogitsCase.all, KernelTable.allCases)
    func threads(_ fixture: LogitsCase, _ table: KernelTable) throws {
        let model = try fixture.load(as: Float.self)
        let tokens = try fixture.recorded().tokens
        let results = try [1, 2, 7].map { threads in
            let kernels = try #require(Kernels<Float>(table, threads: threads))
            var state = model.start(length: tokens.count)
            return try logits(model, tokens, &state, kernels)
        }
        #expect(results[0] == results[1])
        #expect(results[0] == results[2])
    }

    @Test("strict kernels give the same bits on every instruction set", arguments: LogitsCase.all)
    func instructionSets(_ fixture: LogitsCase) throws {
        let model = try fixture.load(as: Float.self)
        let tokens = try fixture.recorded().tokens
        let results = try InstructionSet.allCases.compactMap { set in
            try Kernels<Float>(.strict, instructionSet: set, threads: 1).map { kernels in
                var state = model.start(length: tokens.count)
                return try logits(model, tokens, &state, kernels)
            }
        }
        #expect(results.allSatisfy { $0 == results[0] })
    }

    @Test("strict logits do not depend on machine, compiler or time")
    func digests() throws {
        for (root, expected) in [
            ("logits", "9fa852d60128bdd3966f9e9470609044709bec1c41c4ed983f82b0ac598a8bcc"),
            (
                "decoders", "47ac14c7698e23c53ec5e0615cf97c687a8d0fb64e434f1d65385131b53d7a4e"
            ),
            ("eagle-finch", "dba5ab400ae11bb788145b9fc12ec13b042e3ae12c632a1f788440dc6250814d"),
            ("radlads", "169d0c9a6660f93754f54928d91da7e835a7a8d43a2d6f263040e72b0bfcbc0e"),
            ("arwkv", "c3821f1f7b03f10c3aadb743bf79246b89e829c4d9a969a0f96e499ac6a21e2c"),
        ] {
            let found = try digest(of: LogitsCase.all.filter { $0.model.hasPrefix(root) })
            #expect(found == expected)
        }
    }

    private func digest(of fixtures: [LogitsCase]) throws -> String {
        var bytes: [UInt8] = []
        for fixture in fixtures {
            let model = try fixture.load(as: Float.self)
            let kernels = try #require(Kernels<Float>(.strict, threads: 2))
            let tokens = try fixture.recorded().tokens
            var state = model.start(length: tokens.count)
            for value in try logits(model, tokens, &state, kernels) {
                bytes += withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
            }
        }
        return sha256(of: bytes)
    }

    @Test("dynamic and longrope use the announced length")
    func lengths() throws {
        for name in ["llama dynamic", "llama longrope"] {
            let fixture = try #require(LogitsCase.all.first { $0.name == name })
            let model = try fixture.load(as: Float.self)
            let kernels = try #require(Kernels<Float>(.strict, threads: 1))
            let tokens = Array(try fixture.recorded().tokens.prefix(8))
            var (short, long) = (model.start(length: 8), model.start(length: 40))
            let one = try logits(model, tokens, &short, kernels)
            let other = try logits(model, tokens, &long, kernels)
            #expect(normalisedError(one, other.map(Double.init)) > 1e-4)
        }
    }

    @Test("a batch of sequences gives what each gives alone, or is refused", arguments: LogitsCase.all)
    func sequences(_ fixture: LogitsCase) throws {
        let model = try fixture.load(as: Float.self)
        let kernels = try #require(Kernels<Float>(.strict, threads: 2))
        let tokens = Array(try fixture.recorded().tokens.prefix(12))
        func run(_ tokens: [Int], sequences: Int) throws -> [Float] {
            var state = model.start(length: 6, sequences: sequences)
            return try logits(model, tokens, &state, kernels)
        }
        let separate = try run(Array(tokens[..<6]), sequences: 1) + run(Array(tokens[6...]), sequences: 1)
        let architecture = model.description.architecture
        if architecture.body.feedForward.shiftsTokens {
            #expect(throws: CheckpointError.self) { try run(tokens, sequences: 2) }
        } else {
            #expect(try run(tokens, sequences: 2) == separate)
        }
        #expect(throws: CheckpointError.self) { try run(Array(tokens[..<11]), sequences: 2) }
        var state = model.start(length: 6, sequences: 2)
        _ = try? logits(model, tokens, &state, kernels)
        #expect(throws: CheckpointError.self) { try logits(model, tokens, &state, kernels) }
    }

    @Test("empty input and tokens outside the vocabulary are refused")
    func badTokens() throws {
        let model = try #require(LogitsCase.all.first).load(as: Float.self)
        let kernels = try #require(Kernels<Float>(.fast, threads: 1))
        for tokens in [[], [96], [-1], [1, 2, 96]] {
            var state = model.start(length: 4)
            #expect(throws: CheckpointError.self) { try model.hidden(tokens, &state, kernels) }
        }
    }
}
