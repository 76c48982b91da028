import CheckpointFiles
import Foundation
import TestSupport
import Testing

/// Tests that run the command `bench`.
///
/// None of them requires a certain speed.
@Suite struct BenchTests {
    private struct Document: Decodable {
        struct Measurement: Decodable {
            let name: String
            let dtype: String
            let tokens: Int
            let cpu_seconds: [Double]
            let wall_seconds: [Double]
            let tokens_per_second: Double
            let operations_per_second: Double
            let bytes_per_second: Double
        }
        struct Model: Decodable {
            let name: String
            let parameters: Int
            let path: String?
        }
        let instruction_set: String
        let kernels: String
        let threads: Int
        let model: Model?
        let measurements: [Measurement]
        let peak_memory_bytes: Int
    }

    private func bench(_ arguments: String..., in directory: URL = Repository.root) throws -> Document {
        let output = try CommandLineTool.run(["bench"] + arguments + ["--json"], in: directory)
        try #require(output.status == 0, "\(output.err)")
        return try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
    }

    @Test func measuresTheRecurrence() throws {
        let document = try bench(
            "wkv", "--heads", "3", "--head-size", "32", "--tokens", "50", "--runs", "4", "--threads", "1", "--isa",
            "baseline", "--kernels", "strict")
        #expect(document.instruction_set == "baseline" && document.kernels == "strict" && document.threads == 1)
        let names = ["wkv7", "wkv7", "wkv7", "wkv7_tokens", "wkv7_gradients", "wkv6", "wkv5"]
        #expect(document.measurements.map(\.name) == names)
        #expect(document.measurements.map(\.dtype) == ["F32", "BF16", "F16", "F32", "F32", "F32", "F32"])
        for measurement in document.measurements {
            #expect(measurement.tokens == 50 && measurement.cpu_seconds.count == 4)
            let sorted = measurement.cpu_seconds.sorted()
            let seconds = (sorted[1] + sorted[2]) / 2
            // The RWKV-7 recurrence takes nine operations for each element of the state, or 35 with gradients.
            let count = ["wkv7_gradients": 35, "wkv6": 5, "wkv5": 5][measurement.name] ?? 9
            let expected = Double(count * 3 * 32 * 32 * 50) / seconds
            #expect((measurement.operations_per_second / expected - 1).magnitude < 1e-9)
            #expect((measurement.tokens_per_second * seconds / 50 - 1).magnitude < 1e-9)
        }
    }

    @Test func measuresAModel() throws {
        let path = "fixtures/logits/qwen3"
        let document = try bench("forward", path, "--tokens", "20", "--runs", "2", "--threads", "2")
        #expect(document.model?.path == path && document.model?.name == "qwen3")
        let (prefill, token) = (document.measurements[0], document.measurements[1])
        #expect(prefill.name == "prefill" && prefill.tokens == 20 && prefill.wall_seconds.count == 2)
        #expect(token.name == "token" && token.tokens == 1 && token.wall_seconds.count == 20)
        // The number of bytes to read does not depend on the number of tokens.
        let seconds = (prefill.wall_seconds[0] + prefill.wall_seconds[1]) / 2
        let sorted = token.wall_seconds.sorted()
        let ratio = prefill.bytes_per_second * seconds / (token.bytes_per_second * (sorted[9] + sorted[10]) / 2)
        #expect((ratio - 1).magnitude < 1e-9)
        #expect(document.peak_memory_bytes > 1_000_000)
    }

    @Test func measuresTraining() throws {
        let path = "fixtures/planted-teacher"
        let document = try bench("train", path, "--batch", "2", "--context", "8", "--runs", "3", "--threads", "1")
        #expect(document.model?.path == path && document.model?.name == "qwen3")
        #expect(document.measurements.map(\.name) == ["alignment", "divergence"])
        for measurement in document.measurements {
            #expect(measurement.tokens == 16 && measurement.cpu_seconds.count == 3)
        }
        // The weights are random, and their shapes come from a config.json. No files remain afterwards, not even the
        // tokenizer, which conversions copy.
        try withTemporaryDirectory { directory in
            for name in ["config.json", "model.safetensors", "tokenizer.json"] {
                let source = name == "tokenizer.json" ? "config.json" : name
                try FileManager.default.copyItem(
                    atPath: Repository.fixture("planted-teacher/\(source)"),
                    toPath: directory.appending(path: name).path)
            }
            let place = directory.appending(path: "made")
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: false)
            for teacher in [directory.path, directory.appending(path: "config.json").path] {
                let output = try CommandLineTool.run(
                    ["bench", "train", teacher, "--batch", "1", "--context", "8", "--runs", "1", "--json"],
                    environment: ["TMPDIR": place.path])
                try #require(output.status == 0, "\(output.err)")
                let other = try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
                #expect(other.model?.parameters == document.model?.parameters)
                #expect((other.model?.path == nil) == teacher.hasSuffix(".json"))
                #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty)
            }
        }
    }

    @Test func countsWhatAModelReadsAndComputes() throws {
        let path = "fixtures/logits/hxa079"
        let document = try bench("forward", path, "--tokens", "4", "--runs", "1", "--threads", "2")
        let checkpoint = try Checkpoint.open(Repository.fixture("logits/hxa079"))
        // These are all matrices except the embedding, which is not tied here, and the bonus, which is a vector for
        // each head.
        let matrices = checkpoint.tensors.filter {
            $0.shape.count == 2 && !$0.name.contains("embed_tokens") && !$0.name.hasSuffix("r_k")
        }
        let bytes = matrices.reduce(0) { $0 + $1.byteCount }
        let token = document.measurements[1]
        let sorted = token.wall_seconds.sorted()
        let seconds = (sorted[4] + sorted[5]) / 2
        #expect((token.bytes_per_second * seconds / Double(bytes) - 1).magnitude < 1e-9)
        // There are two operations per weight, nine per element of the state, and four per channel of each token
        // attended to.
        let weights = matrices.reduce(0) { $0 + $1.shape[0] * $1.shape[1] }
        let (heads, size, recurrent, attention) = (4, 16, 2, 2)
        let expected = 2 * weights + heads * size * (recurrent * 9 * size + attention * 4 * 22)
        #expect((token.operations_per_second * seconds / Double(expected) - 1).magnitude < 1e-9)
    }

    @Test func printsATable() throws {
        for arguments in [
            ["wkv", "--heads", "1", "--tokens", "8"], ["forward", "fixtures/logits/qwen3", "--tokens", "8"],
        ] {
            let output = try CommandLineTool.run(["bench"] + arguments + ["--runs", "1"], in: Repository.root)
            #expect(output.status == 0 && output.err.isEmpty)
            #expect(output.out.contains("GFLOP/s") && output.out.contains("plain loop"))
            #expect(output.out.contains("token by token") || output.out.contains("single token"))
        }
    }

    @Test(arguments: [0.2, 1.0, 3.0]) func endsWhenItIsInterrupted(_ seconds: Double) throws {
        try withTemporaryDirectory { directory in
            let output = try CommandLineTool.run(
                ["bench", "forward", "--tokens", "64", "--runs", "900"], in: directory,
                environment: ["TMPDIR": directory.path], signal: (SIGINT, .after(seconds)))
            #expect(output.status == 130, "\(output.err)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
        }
    }

    @Test func makesRandomWeightsAndTakesThemAway() throws {
        try withTemporaryDirectory { directory in
            let configuration = Repository.root.appending(path: "fixtures/models/qwen3/config.json").path
            let output = try CommandLineTool.run(
                ["bench", "forward", configuration, "--tokens", "5", "--runs", "1", "--dtype", "bf16", "--json"],
                in: directory, environment: ["TMPDIR": directory.path])
            try #require(output.status == 0, "\(output.err)")
            let document = try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
            #expect(document.model?.path == nil && document.measurements.allSatisfy { $0.dtype == "BF16" })
            let parameters = document.model?.parameters ?? 0
            #expect(parameters > 10_000)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
        }
    }

    @Test func refusesModelsLargerThanAnyFile() throws {
        let sizes = ["hidden_size", "intermediate_size", "vocab_size"].map { "\"\($0)\": 16777216" }
        let ranks = ["decay", "a", "v", "gate"].map { "\"\($0)_low_rank_dim\": 16777216" }
        let documents = [
            (
                "forward",
                [#""model_type": "rwkv7", "head_dim": 4096, "num_hidden_layers": 1024, "norm_eps": 1e-5"#] + sizes
                    + ranks
            ),
            (
                "train",
                [
                    #""model_type": "qwen3", "head_dim": 4096, "num_hidden_layers": 1024, "rms_norm_eps": 1e-6"#,
                    #""num_attention_heads": 4096, "rope_theta": 1e6"#,
                ] + sizes
            ),
        ]
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "huge.json").path(percentEncoded: false)
            for (command, members) in documents {
                try Data("{\(members.joined(separator: ", "))}".utf8).write(to: URL(filePath: path))
                let output = try CommandLineTool.run(
                    ["bench", command, path], environment: ["TMPDIR": directory.path(percentEncoded: false)])
                #expect(output.status == 65 && output.out.isEmpty, "\(output)")
                #expect(output.err.split(separator: "\n").count == 1)
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["huge.json"])
            }
        }
    }

    @Test func refusesWhatCannotBeMeasured() throws {
        for (arguments, status) in [
            (["wkv", "--heads", "0"], 64), (["wkv", "--head-size", "100000"], 64), (["wkv", "--runs", "0"], 64),
            (["forward", "--tokens", "0"], 64), (["forward", "--dtype", "keep"], 64), (["forward", "nowhere"], 66),
            (["forward", "fixtures/logits/qwen3", "--dtype", "f32"], 64),
            (["forward", "fixtures/models/qwen3/config.json", "--config", "fixtures/models/qwen3/config.json"], 64),
            (["forward", "README.md"], 65), (["forward", "fixtures/models/expected.json"], 65),
        ] {
            let output = try CommandLineTool.run(["bench"] + arguments, in: Repository.root)
            #expect(output.status == Int32(status), "\(arguments): \(output.err)")
            #expect(output.out.isEmpty)
        }
    }
}
