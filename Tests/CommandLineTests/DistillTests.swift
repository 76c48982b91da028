import CheckpointFiles
import Foundation
import TestSupport
import Testing

/// Tests that run the command `distill`.
@Suite struct DistillTests {
    private struct Document: Decodable {
        struct Layer: Decodable {
            let index: Int
        }
        struct HeldOut: Decodable {
            let step: Int
            let kl: Double
        }
        struct Loss: Decodable {
            let first: Double
            let last: Double
        }
        let stage: Int
        let steps_done: Int
        let loss: Loss
        let layers: [Layer]
        let held_out: [HeldOut]
        let arithmetic: [String: String]
        let warnings: [[String: String]]
    }

    private static let teacher = Repository.fixture("planted-teacher")
    private static let tokens = Repository.fixture("distillation/tokens.npy")

    /// Calls a closure with a directory that contains a student of the planted teacher in the subdirectory `student`.
    ///
    /// All layers of the student use time mixing.
    private func withStudent(_ body: (URL) throws -> Void) throws {
        try withTemporaryDirectory { directory in
            for arguments in [
                ["plan", Self.teacher, "--target", "hxa079", "--keep-gqa", "none", "--seed", "1", "-o", "plan.json"],
                ["convert", Self.teacher, "--plan", "plan.json", "-o", "student"],
            ] {
                let output = try CommandLineTool.run(arguments, in: directory)
                try #require(output.status == 0, "\(output.err)")
            }
            try body(directory)
        }
    }

    private func distill(_ options: String..., in directory: URL, student: String = "student") throws
        -> CommandLineTool.Output
    {
        try CommandLineTool.run(
            ["distill", Self.teacher, student, "--tokens-file", Self.tokens, "--context", "48", "--batch", "4"]
                + options,
            in: directory)
    }

    @Test func bothStagesLearn() throws {
        try withStudent { directory in
            let first = try distill(
                "--stage", "1", "--steps", "12", "--eval-tokens", Self.tokens, "-o", "aligned", "--json", in: directory)
            try #require(first.status == 0, "\(first.err)")
            let alignment = try JSONDecoder().decode(Document.self, from: Data(first.out.utf8))
            #expect(alignment.steps_done == 12 && alignment.layers.map(\.index) == Array(0..<6))
            #expect(alignment.loss.last < 0.6 * alignment.loss.first)
            #expect(alignment.held_out.map(\.step) == [0, 12])
            #expect(alignment.held_out[1].kl < 0.8 * alignment.held_out[0].kl)
            let log = try String(contentsOf: directory.appending(path: "aligned/log.jsonl"), encoding: .utf8)
            let lines = try log.split(separator: "\n").map {
                try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            }
            #expect(lines.compactMap { $0["loss"] as? Double }.count == 12 && lines.count == 15)
            #expect(lines[0]["arithmetic"] as? [String: String] == alignment.arithmetic)
            #expect(alignment.arithmetic.keys.sorted() == ["instruction_set", "kernels", "product"])

            let second = try distill(
                "--stage", "2", "--steps", "3", "--train", "mixers,-projections,*.w0=2", "-o", "distilled", "--json",
                in: directory, student: "aligned")
            try #require(second.status == 0, "\(second.err)")
            let (aligned, distilled) = (
                try Checkpoint.open(directory.appending(path: "aligned").path(percentEncoded: false)),
                try Checkpoint.open(directory.appending(path: "distilled").path(percentEncoded: false))
            )
            for (tensor, isKept) in [("receptance.weight", true), ("w0", false), ("output.weight", false)] {
                let name = "model.layers.2.self_attn.\(tensor)"
                let (before, after) = (
                    try #require(aligned.tensor(named: name)), try #require(distilled.tensor(named: name))
                )
                #expect(try distilled.hasSameBytes(after, as: before, of: aligned) == isKept, "\(tensor)")
            }
            let inspected = try CommandLineTool.run(["inspect", "distilled"], in: directory)
            #expect(inspected.status == 0 && inspected.out.contains("cxa079"))
        }
    }

    @Test func goesOnWhereItWasSaved() throws {
        try withStudent { directory in
            // The run saves a checkpoint after each step, so a signal always interrupts unsaved work.
            let arguments = [
                "distill", Self.teacher, "student", "--tokens-file", Self.tokens, "--context", "48", "--stage", "1",
                "--steps", "40", "--checkpoint-every", "1",
            ]
            func run(_ more: [String]) throws -> CommandLineTool.Output {
                try CommandLineTool.run(arguments + more, in: directory)
            }
            #expect(try run(["-o", "whole"]).status == 0)
            let again = try run(["-o", "whole", "--resume"])
            #expect(again.status == 66 && again.err.contains("no unfinished run"))
            let taken = try run(["-o", "whole"])
            #expect(taken.status == 73 && taken.err.contains("--force"))

            // SIGINT stops the run after it has saved a checkpoint. SIGKILL can end it at any point.
            let last = directory.appending(path: "whole/model.safetensors")
            for (number, status) in [(SIGINT, 130), (SIGKILL, -9)] {
                try? FileManager.default.removeItem(at: directory.appending(path: "cut"))
                let state = directory.appending(path: "cut/training.safetensors")
                let stopped = try CommandLineTool.run(
                    arguments + ["-o", "cut"], in: directory, signal: (number, .appearance(of: state)))
                #expect(Int(stopped.status) == status && FileManager.default.fileExists(atPath: state.path))
                let other = try run(["-o", "cut", "--resume", "--seed", "2"])
                #expect(other.status == 65 && other.err.contains("different settings"))
                // The tool refuses to replace files that it did not write, and reports this before it trains.
                let notes = directory.appending(path: "cut/notes.txt")
                try Data("mine".utf8).write(to: notes)
                let foreign = try run(["-o", "cut", "--resume"])
                #expect(foreign.status == 73 && foreign.err.contains("did not write"))
                try FileManager.default.removeItem(at: notes)
                let resumed = try run(["-o", "cut", "--resume"])
                #expect(resumed.status == 0, "\(resumed.err)")
                #expect(
                    try Data(contentsOf: directory.appending(path: "cut/model.safetensors")) == Data(contentsOf: last))
            }
        }
    }

    @Test(arguments: ["lora:4", "dora:4", "bone:16"]) func adaptersAreMergedByConvert(_ adapter: String) throws {
        try withStudent { directory in
            let options = ["--eval-tokens", Self.tokens, "--json"]
            func evaluations(_ arguments: [String]) throws -> [Document.HeldOut] {
                let output = try CommandLineTool.run(
                    ["distill", Self.teacher] + arguments + ["--tokens-file", Self.tokens, "--context", "48"] + options,
                    in: directory)
                try #require(output.status == 0, "\(output.err)")
                return try JSONDecoder().decode(Document.self, from: Data(output.out.utf8)).held_out
            }
            let trained = try evaluations([
                "student", "--stage", "2", "--steps", "3", "--train-adapter", adapter, "-o", "run",
            ])
            let merged = try CommandLineTool.run(
                ["convert", "run", "--adapter", "run/adapter", "-o", "merged"], in: directory)
            try #require(merged.status == 0, "\(merged.err)")
            let again = try evaluations(["merged", "--stage", "2", "--steps", "1", "-o", "again"])
            #expect(trained.map(\.step) == [0, 3])
            #expect(abs(again[0].kl - trained[1].kl) < 1e-5 * trained[1].kl)
            #expect(abs(trained[0].kl - trained[1].kl) > 1e-2 * trained[1].kl)
        }
    }

    @Test func writesPages() throws {
        try withStudent { directory in
            // Two files of the same name.
            for name in ["text", "recall"] {
                let place = directory.appending(path: "held <out>/\(name)")
                try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
                try FileManager.default.copyItem(
                    at: URL(filePath: Self.tokens), to: place.appending(path: "tokens.npy"))
            }
            let run = try distill(
                "--stage", "1", "--steps", "3", "--eval-tokens", "held <out>/text/tokens.npy", "--eval-tokens",
                "held <out>/recall/tokens.npy", "-o", "run", in: directory)
            try #require(run.status == 0, "\(run.err)")
            let texts = try ["curve.svg", "report.html"].map {
                try String(contentsOf: directory.appending(path: "run/\($0)"), encoding: .utf8)
            }
            for text in texts {
                #expect(!text.contains("<out>"))
                let names = try Markup(text).all("text").map(\.text)
                for name in ["loss", "KL, text/tokens.npy", "KL, recall/tokens.npy"] { #expect(names.contains(name)) }
            }
            // The curve's losses are at steps 1 to 3, the evaluations at 0 and 3.
            let curve = try Markup(texts[0])
            #expect(curve.all("path", inside: "s0").count { $0.text.hasPrefix("loss, step ") } == 3)
            for step in [0, 3] {
                #expect(
                    curve.all("path", inside: "s1").contains {
                        $0.text.hasPrefix("KL, text/tokens.npy, step \(step): ")
                    })
            }
            let page = try Markup(texts[1])
            for name in ["title", "h1"] { #expect(page.all(name)[0].text == "Distillation, stage 1: 3 steps") }
            let facts = page.all("dd").map(\.text)
            #expect(facts.starts(with: ["\(Self.teacher) (qwen3)", "student (cxa079)", "run"]))
            #expect(facts.suffix(2) == ["held <out>/text/tokens.npy", "held <out>/recall/tokens.npy"])
            #expect(page.all("td").count { $0.text == "recall/tokens.npy" } == 2)
            #expect(page.all("rect").count { $0.text == "layer 5: rwkv7" } == 1)
            #expect(page.all("path").contains { $0.text.hasPrefix("last step, layer 5: ") })
        }
    }

    @Test func whatWasTrainedIsKeptWhereItCannotBeEvaluated() throws {
        try withStudent { directory in
            // The student still has finite weights at the first evaluation.
            let output = try distill(
                "--stage", "1", "--steps", "2", "--learning-rate", "1e8", "--warmup", "0", "--eval-tokens",
                Self.tokens, "-o", "ruined", in: directory)
            #expect(output.status == 65 && output.err.contains("not finite"), "\(output.err)")
            let log = try String(contentsOf: directory.appending(path: "ruined/log.jsonl"), encoding: .utf8)
            #expect(log.contains(#""step": 2, "loss""#))
            let again = try distill(
                "--stage", "1", "--steps", "2", "-o", "ruined", in: directory)
            #expect(again.status == 73 && again.err.contains("--resume"), "\(again.err)")
            // The report can be written even if the number of tokens per second overflows.
            let fast = log.replacing(#/"seconds": [^,]*/#, with: #""seconds": 1e-300"#)
            try Data(fast.utf8).write(to: directory.appending(path: "ruined/log.jsonl"))
            let resumed = try distill(
                "--stage", "1", "--steps", "2", "--learning-rate", "1e8", "--warmup", "0", "--eval-tokens",
                Self.tokens, "-o", "ruined", "--resume", in: directory)
            #expect(resumed.status == 65 && resumed.err.contains("not finite"), "\(resumed.err)")
        }
    }

    @Test func evaluationsThatWereInterruptedAreMadeUpFor() throws {
        try withStudent { directory in
            var options = [
                "distill", Self.teacher, "student", "--tokens-file", Self.tokens, "--context", "48", "--batch", "1",
                "--stage", "1", "--steps", "2", "--checkpoint-every", "1", "-o", "run", "--json",
            ]
            for number in 1...8 {
                let link = directory.appending(path: "\(number).npy").path
                try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: Self.tokens)
                options += ["--eval-tokens", link]
            }
            // The training state exists from the first checkpoint on. The last evaluation begins soon after that, and
            // takes more than a second.
            let state = directory.appending(path: "run/training.safetensors")
            for seconds in [0.02, 0.4] {
                let stopped = try CommandLineTool.run(
                    options, in: directory, signal: (SIGINT, .appearance(of: state, after: seconds)))
                #expect(stopped.status == 130 && FileManager.default.fileExists(atPath: state.path))
                let resumed = try CommandLineTool.run(options + ["--resume"], in: directory)
                try #require(resumed.status == 0, "\(resumed.err)")
                let document = try JSONDecoder().decode(Document.self, from: Data(resumed.out.utf8))
                #expect(document.steps_done == 2)
                #expect(document.held_out.map(\.step) == [0, 1, 2].flatMap { [Int](repeating: $0, count: 8) })
                #expect(!FileManager.default.fileExists(atPath: state.path))
                try FileManager.default.removeItem(at: directory.appending(path: "run"))
            }
        }
    }

    @Test func resumesWithOtherArithmeticAndNoOtherTeacher() throws {
        try withStudent { directory in
            let retrained = directory.appending(path: "retrained")
            try FileManager.default.copyItem(atPath: Self.teacher, toPath: retrained.path)
            let weights = retrained.appending(path: "model.safetensors")
            var bytes = try Data(contentsOf: weights)
            bytes[bytes.count - 1] ^= 1
            try bytes.write(to: weights)
            func run(_ teacher: String, _ more: String..., signal: (Int32, CommandLineTool.Moment)? = nil) throws
                -> CommandLineTool.Output
            {
                try CommandLineTool.run(
                    [
                        "distill", teacher, "student", "--tokens-file", Self.tokens, "--context", "48", "--stage", "1",
                        "--steps", "40", "--checkpoint-every", "1", "-o", "cut",
                    ] + more, in: directory, signal: signal)
            }
            let state = directory.appending(path: "cut/training.safetensors")
            #expect(try run(Self.teacher, signal: (SIGINT, .appearance(of: state))).status == 130)
            let other = try run("retrained", "--resume")
            #expect(other.status == 65 && other.err.contains("retrained: the run was started with a different teacher"))
            let twice = editHeader(ofSafetensors: Array(try Data(contentsOf: state))) { text in
                text = text.replacing(
                    #""__metadata__":{"#, with: "\"__metadata__\":{\"caf\u{E9}\":\"\",\"cafe\u{301}\":\"\",")
            }
            try Data(twice).write(to: state)
            let resumed = try run(Self.teacher, "--resume", "--isa", "baseline", "--json")
            try #require(resumed.status == 0, "\(resumed.err)")
            let document = try JSONDecoder().decode(Document.self, from: Data(resumed.out.utf8))
            #expect(document.arithmetic["instruction_set"] == "baseline")
            #expect(
                document.warnings.count == 1 && document.warnings[0]["message"]?.contains("files will differ") == true)
        }
    }

    @Test func saysWhatDoesNotGo() throws {
        try withStudent { directory in
            for (options, status, words) in [
                (["--stage", "1", "--steps", "2", "--context", "97"], 65, "the training sequences are too short"),
                (["--stage", "1", "--steps", "2", "--train", "no such*"], 65, "matches no trainable weight"),
                (["--stage", "1", "--steps", "2", "--train", "rwkv,mlp"], 65, "stage 1 trains only time mixing"),
                (["--stage", "1", "--steps", "2", "--train=-rwkv"], 65, "all trainable weights are frozen"),
                (["--stage", "1", "--steps", "2", "--batch", "4096", "--context", "4096"], 64, "at most 1048576"),
                (["--stage", "2", "--steps", "20", "--learning-rate", "1e30", "--warmup", "0"], 65, "not finite"),
                (["--stage", "1", "--steps", "2", "--train-adapter", "lora:65"], 65, "an adapter of rank 65"),
                (["--stage", "1", "--steps", "2", "--train-adapter", "bone:24"], 65, "an adapter of rank 24"),
                (
                    ["--stage", "1", "--steps", "2", "--train", "*.w0", "--train-adapter", "lora:2"], 65,
                    "none of the trained weights is a projection"
                ),
                (["--stage", "1", "--steps", "2", "--train-adapter", "lora:0"], 64, "--train-adapter"),
                (["--stage", "3", "--steps", "2"], 64, "--stage must be between 1 and 2, not 3"),
                (["--stage", "1", "--steps", "0"], 64, "--steps must be between 1 and"),
            ] {
                let output = try CommandLineTool.run(
                    ["distill", Self.teacher, "student", "--tokens-file", Self.tokens, "-o", "out"] + options,
                    in: directory)
                #expect(Int(output.status) == status && output.err.contains(words), "\(options): \(output.err)")
                #expect(!FileManager.default.fileExists(atPath: directory.appending(path: "out").path()))
            }
            for (student, words) in [
                (Repository.fixture("logits/hxa079"), "the student and its teacher differ in"),
                (Self.teacher, "no RWKV layer"),
            ] {
                let output = try distill("--stage", "1", "--steps", "2", "-o", "out", in: directory, student: student)
                #expect(output.status == 65 && output.err.contains(words), "\(output.err)")
            }
        }
    }
}
