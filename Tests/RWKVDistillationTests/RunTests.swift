import Bytes
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import RWKVInference
import RWKVNumerics
import TestSupport
import Testing
import TokenFiles

@testable import RWKVDistillation

/// Tests complete, interrupted, resumed and refused runs, and the files that they leave in their directories.
struct RunTests {
    private static let stateName = "training.safetensors"

    private func kernels() throws -> Kernels<Float> { try #require(Kernels(.fast, threads: 2)) }

    /// Returns the files in a run's directory, without the timings in the log.
    private func contents(_ directory: URL) throws -> [String: Data] {
        var contents: [String: Data] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: directory.path) {
            guard let data = FileManager.default.contents(atPath: directory.appending(path: name).path) else {
                continue
            }
            contents[name] = data
        }
        let log = String(decoding: contents["log.jsonl"] ?? Data(), as: UTF8.self)
        contents["log.jsonl"] = Data(log.replacing(#/"seconds": [^,]*/#, with: "").utf8)
        return contents
    }

    private func options(resumes: Bool = false) throws -> DistillationRun.Options {
        var options = DistillationRun.Options()
        options.evaluationTokens = [try TokenSequences([[1, 2, 3, 1, 2, 3]], path: "held out")]
        options.checkpointInterval = 3
        options.resumes = resumes
        options.pages = { [.report: "after \($0.distillation.step) steps"] }
        return options
    }

    /// Runs a case until it is cancelled after two steps, and passes the directory of the saved run to a closure.
    private func withInterrupted(_ fixture: DistillationCase, _ body: (_ run: URL, _ root: URL) throws -> Void) throws {
        try withTemporaryDirectory { root in
            let place = root.appending(path: "cut")
            let progress = WorkProgress()
            var run = try DistillationRun(
                fixture.distillation(of: fixture.student(in: root)), in: place.path, options())
            let error = #expect(throws: CheckpointError.self) {
                try run.finish(kernels(), progress: progress) { event in
                    if case .step(let step) = event, step.number == 2 { progress.cancel() }
                }
            }
            #expect(error?.category == .cancelled)
            try body(place, root)
        }
    }

    /// Creates a run that resumes a saved run from its directory.
    private func resumed(
        _ fixture: DistillationCase, in place: URL, teacher: String = DistillationCase.teacher,
        tokens: TokenSequences? = nil, _ settings: DistillationSettings? = nil
    ) throws -> DistillationRun {
        try DistillationRun(
            fixture.distillation(of: Checkpoint.open(place.path), teacher: teacher, tokens: tokens, settings),
            in: place.path, options(resumes: true))
    }

    /// Returns the error that finishing a resumed run throws; nil if the run finishes.
    private func refusal(_ make: @autoclosure () throws -> DistillationRun) throws -> CheckpointError? {
        do {
            var run = try make()
            try run.finish(kernels())
            return nil
        } catch let error as CheckpointError { return error }
    }

    @Test(
        "a run that was interrupted and resumed leaves the same as an uninterrupted one",
        arguments: ["alignment", "divergence, joined, accumulated", "alignment with DoRA", "divergence with Bone"])
    func resumed(_ name: String) throws {
        let fixture = try DistillationCase.named(name)
        try withInterrupted(fixture) { place, root in
            let state = place.appending(path: Self.stateName).path
            #expect(FileManager.default.fileExists(atPath: state))
            var run = try resumed(fixture, in: place)
            var steps: [Int] = []
            try run.finish(kernels()) { event in
                if case .step(let step) = event { steps.append(step.number) }
            }
            #expect(steps == [3, 4, 5] && run.log.steps.count == 5 && run.warnings.isEmpty)
            #expect(run.log.evaluations.map(\.step) == [0, 3, 5])
            #expect(!FileManager.default.fileExists(atPath: state))
            let whole = root.appending(path: "whole")
            var other = try DistillationRun(
                fixture.distillation(of: Checkpoint.open(root.appending(path: "student").path)), in: whole.path,
                options())
            try other.finish(kernels())
            let (found, expected) = (try contents(place), try contents(whole))
            #expect(found.keys.sorted() == expected.keys.sorted() && found["model.safetensors"] != nil)
            for (name, data) in expected { #expect(found[name] == data, "\(name)") }
        }
    }

    @Test("inputs are identified by their content, and the one that differs is named")
    func otherInputs() throws {
        let fixture = try DistillationCase.named("alignment")
        try withInterrupted(fixture) { place, root in
            let files = FileManager.default
            // The retrained teacher has the same shapes, but the last number of its last tensor is different.
            let (copied, retrained) = (root.appending(path: "copied").path, root.appending(path: "retrained").path)
            for path in [copied, retrained] { try files.copyItem(atPath: DistillationCase.teacher, toPath: path) }
            try change(retrained + "/model.safetensors") { $0[$0.count - 1] ^= 1 }
            let teacher = try refusal(resumed(fixture, in: place, teacher: retrained))
            #expect(teacher?.category == .unsupported && teacher?.path == retrained)
            #expect(teacher?.problem.contains("a different teacher") == true)
            try files.removeItem(atPath: retrained)
            try files.copyItem(atPath: DistillationCase.teacher, toPath: retrained)
            try change(retrained + "/config.json") { bytes in
                let text = String(decoding: bytes, as: UTF8.self)
                bytes = Array(text.replacing(#/"rms_norm_eps": [^,}]*/#, with: #""rms_norm_eps": 0.25"#).utf8)
            }
            #expect(try refusal(resumed(fixture, in: place, teacher: retrained))?.path == retrained)

            var sequences = try TokenSequences(contentsOf: DistillationCase.tokens).sequences
            sequences[0][0] ^= 1
            let tokens = try refusal(
                resumed(fixture, in: place, tokens: TokenSequences(sequences, path: "other tokens")))
            #expect(tokens?.category == .unsupported && tokens?.path == "other tokens")

            let model = place.appending(path: "model.safetensors").path
            try change(model) { $0[$0.count - 1] ^= 1 }
            let student = try refusal(resumed(fixture, in: place))
            #expect(student?.problem.contains("the student differs from the one") == true)
            try change(model) { $0[$0.count - 1] ^= 1 }
            let first = try refusal(
                DistillationRun(
                    fixture.distillation(of: Checkpoint.open(root.appending(path: "student").path)), in: place.path,
                    options(resumes: true)))
            #expect(first?.problem.contains("student in the run's directory") == true)

            // A copy of the teacher at another path counts as the same teacher.
            #expect(try refusal(resumed(fixture, in: place, teacher: copied)) == nil)
        }
    }

    @Test("settings that differ are named, and no others")
    func otherSettings() throws {
        let fixture = try DistillationCase.named("alignment")
        try withInterrupted(fixture) { place, _ in
            var settings = try fixture.settings()
            (settings.seed, settings.learningRate.warmUp) = (77, 3)
            let error = try refusal(resumed(fixture, in: place, settings))
            #expect(error?.category == .unsupported && error?.problem.contains("different settings") == true)
            #expect(error?.found == "warm-up 3, seed 77")
            settings = try fixture.settings()
            settings.stage = .divergence(LogitDivergence(), temperatures: [2])
            let stage = try refusal(resumed(fixture, in: place, settings))
            #expect(stage?.expected == "loss relative-l2, stage 1", "\(String(describing: stage))")
        }
    }

    @Test("a run that is resumed with another matrix product goes on, and warns once")
    func otherArithmetic() throws {
        let fixture = try DistillationCase.named("alignment")
        try withInterrupted(fixture) { place, _ in
            let kernels = try self.kernels()
            let other = Arithmetic(
                kernels: "fast", instructionSet: ByteString(kernels.instructionSet.rawValue),
                product: "a library of 1979")
            var warned: [CheckpointWarning] = []
            for number in [3, 4] {
                var run = try resumed(fixture, in: place)
                let progress = WorkProgress()
                #expect(throws: CheckpointError.self) {
                    try run.finish(kernels, other, progress: progress) { event in
                        switch event {
                        case .step(let step): if step.number == number { progress.cancel() }
                        case .warning(let warning): warned.append(warning)
                        }
                    }
                }
            }
            // Each resumption warns once, because the log still contains steps computed with the original arithmetic.
            #expect(warned.count == 2 && Set(warned.map(\.message)).count == 1)
            for name in [kernels.product.description, other.product.text] {
                #expect(warned.first?.message.contains(name) == true)
            }
            let log = String(decoding: try contents(place)["log.jsonl"] ?? Data(), as: UTF8.self)
            #expect(log.contains(#"{"step": 2, "arithmetic": {"kernels": "fast", "#))
            var run = try resumed(fixture, in: place)
            try run.finish(kernels)
            #expect(run.warnings.count == 1)
            #expect(run.log.arithmetics == [Arithmetic(kernels), other, Arithmetic(kernels)])
        }
    }

    @Test("strict kernels give the same bytes with any instruction set")
    func strictArithmetic() {
        let strict = Arithmetic(kernels: "strict", instructionSet: "avx2", product: "own")
        #expect(strict.givesSameBytes(as: .init(kernels: "strict", instructionSet: "avx512", product: "own")))
        #expect(!strict.givesSameBytes(as: .init(kernels: "fast", instructionSet: "avx2", product: "own")))
        let fast = Arithmetic(kernels: "fast", instructionSet: "avx2", product: "own")
        #expect(!fast.givesSameBytes(as: .init(kernels: "fast", instructionSet: "avx512", product: "own")))
    }

    @Test("what a run cannot do is refused before it begins")
    func refused() throws {
        let fixture = try DistillationCase.named("divergence")
        try withInterrupted(fixture) { place, root in
            let student = try Checkpoint.open(root.appending(path: "student").path)
            func refusal(
                _ change: (inout DistillationSettings, inout DistillationRun.Options) throws -> Void
            ) throws -> CheckpointError? {
                var (settings, options) = (try fixture.settings(), try self.options())
                try change(&settings, &options)
                do {
                    _ = try DistillationRun(fixture.distillation(of: student, settings), in: place.path, options)
                    return nil
                } catch let error as CheckpointError { return error }
            }
            let unfinished = try refusal { _, _ in }
            #expect(unfinished?.category == .cannotCreate && unfinished?.problem.contains("unfinished") == true)
            let unknown = try refusal { $1.evaluationTokens = [try TokenSequences([[1 << 20]], path: "unknown")] }
            #expect(unknown?.category == .malformed && unknown?.path == "unknown")
            for change: (inout DistillationSettings) -> Void in [
                { $0.batch = 0 }, { $0.steps = 0 }, { $0.context = 0 }, { $0.accumulate = -1 }, { $0.clip = .nan },
                { ($0.batch, $0.context) = (4096, 4096) }, { $0.learningRate.initial = 0 },
                { $0.stage = .divergence(LogitDivergence(), temperatures: []) },
                { $0.adapters = TrainedAdapters(.bone, rank: 0) },
            ] {
                let error = try refusal { settings, _ in change(&settings) }
                #expect(error?.problem == "a training setting is out of range")
            }
            let scope = try refusal { settings, _ in
                settings.stage = .alignment(Alignment())
                settings.rules = TrainingRules([.init("mlp", Training())])
            }
            #expect(scope?.problem.contains("matches no trainable weight") == true)
        }
    }

    @Test("resuming from any saved state ends in a run or in an error")
    func damaged() throws {
        let fixture = try DistillationCase.named("alignment")
        try withInterrupted(fixture) { place, _ in
            let names = [Self.stateName, "log.jsonl", "model.safetensors"]
            var saved: [String: [UInt8]] = [:]
            for name in names { saved[name] = Array(try Data(contentsOf: place.appending(path: name))) }
            let contents = saved
            func state(_ change: (inout [String: Any]) -> Void) throws -> [UInt8] {
                try editHeader(ofSafetensors: contents[Self.stateName] ?? []) { text in
                    var header = try #require(
                        try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
                    var metadata = header["__metadata__"] as? [String: Any] ?? [:]
                    change(&metadata)
                    header["__metadata__"] = metadata
                    text = String(decoding: try JSONSerialization.data(withJSONObject: header), as: UTF8.self)
                }
            }
            func log(_ old: String, _ new: String) -> [UInt8] {
                Array(String(decoding: contents["log.jsonl"] ?? [], as: UTF8.self).replacing(old, with: new).utf8)
            }
            var cases: [(name: String, bytes: [UInt8], isRefused: Bool)] = [
                ("log.jsonl", [], true), ("log.jsonl", log(#""step": 2"#, #""step": 9e99"#), true),
                ("log.jsonl", log(#""tokens": "#, #""tokens": 9"#), true),
                ("log.jsonl", log(#""seconds": "#, #""seconds": 1e-300, "s": "#), false),
                ("log.jsonl", log(#""loss": "#, #""loss": 1e999, "l": "#), false),
                ("log.jsonl", log(#""loss": "#, #""loss": "none", "l": "#), true),
                ("log.jsonl", log(#""index": 0"#, #""index": 65535"#), false),
                ("log.jsonl", log(#""kl": "#, #""kl": -1e308, "k": "#), false),
                ("log.jsonl", log("arithmetic", "arithmetics"), true),
            ]
            // The two keys have different bytes, although they compare equal as strings.
            let twice = try editHeader(ofSafetensors: state { ($0["FIRST"], $0["SECOND"]) = ("", "") }) { text in
                text = text.replacing("FIRST", with: "caf\u{E9}").replacing("SECOND", with: "cafe\u{301}")
            }
            cases.append((Self.stateName, twice, false))
            for (key, values) in [
                ("step", ["", "-1", "3", "1e0", "99999999999999999999", "0x2", "two"]),
                ("updates", ["-1", "0", "3", "9223372036854775807"]), ("format", ["", "1"]), ("moments", [""]),
                ("settings.steps", ["9223372036854775807"]),
                ("student", ["", "0"]), ("teacher", [""]), ("tokens", [""]), ("settings.loss", ["\u{301}"]),
            ] {
                for value in values { cases.append((Self.stateName, try state { $0[key] = value }, true)) }
                cases.append((Self.stateName, try state { $0[key] = nil }, true))
            }
            cases.append((Self.stateName, try state { $0 = [:] }, true))
            for name in names {
                let bytes = contents[name] ?? []
                for length in [1, 8, 100, bytes.count / 2, bytes.count - 1] {
                    cases.append((name, Array(bytes.prefix(length)), true))
                }
            }
            // In one case, a bit of a moment is flipped; in the other, the log does not record the arithmetic of its
            // steps.
            var flipped = contents[Self.stateName] ?? []
            flipped[flipped.count - 100] ^= 1
            cases.append((Self.stateName, flipped, true))
            let steps = (contents["log.jsonl"] ?? []).drop { $0 != UInt8(ascii: "\n") }.dropFirst()
            cases.append(("log.jsonl", Array(steps), true))
            for (number, (name, bytes, isRefused)) in cases.enumerated() {
                for (name, bytes) in contents { try Data(bytes).write(to: place.appending(path: name)) }
                try Data(bytes).write(to: place.appending(path: name))
                let error = try refusal(resumed(fixture, in: place))
                #expect((error != nil) == isRefused, "\(number): \(name): \(String(describing: error))")
            }
        }
    }

    private func change(_ path: String, _ body: (inout [UInt8]) -> Void) throws {
        var bytes = Array(try Data(contentsOf: URL(filePath: path)))
        body(&bytes)
        try Data(bytes).write(to: URL(filePath: path))
    }
}
