import CheckpointFiles
import Foundation
import TestSupport
import Testing

@Suite struct ConvertTests {
    private func run(_ arguments: String...) throws -> CommandLineTool.Output {
        try CommandLineTool.run(["convert"] + arguments)
    }

    private func names(in directory: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
    }

    private func makePlan(_ target: String, keeping layers: String, in directory: URL) throws -> String {
        let path = directory.appending(path: "\(target)-\(layers).json").path
        let output = try CommandLineTool.run(
            ["plan", "fixtures/models/qwen3", "--target", target, "--keep-gqa", layers, "-o", path])
        #expect(output.status == 0)
        return path
    }

    @Test func goesTheWholeWayOfAConversion() throws {
        try withTemporaryDirectory { directory in
            let target = { (name: String) in directory.appending(path: name).path }
            let all = try makePlan("cxa079", keeping: "none", in: directory)
            let some = try makePlan("hxa079", keeping: "1,3", in: directory)
            let dry = try run("fixtures/models/qwen3", "--plan", all, "-o", target("student"), "--dry-run")
            #expect(dry.status == 0 && dry.err.isEmpty)
            #expect(
                dry.out.contains(
                    "fixtures/models/qwen3 to \(target("student")): qwen3 to cxa079, hf layout\n107 tensors (47 copied, 60 initialised)"
                ))
            #expect(
                dry.out.contains(
                    "model.layers.3.self_attn.g2                     BF16   [256, 64]   initialised  orthogonal 0.1\n"))
            #expect(!FileManager.default.fileExists(atPath: target("student")))

            let first = try run("fixtures/models/qwen3", "--plan", all, "-o", target("student"))
            #expect(
                first.status == 0 && first.err.isEmpty && first.out.contains("107 tensors (47 copied, 60 initialised)"))
            let second = try run(
                target("student"), "--teacher", "fixtures/models/qwen3", "--plan", some, "-o", target("hybrid"))
            #expect(second.status == 0 && second.err.isEmpty)
            #expect(
                second.out.contains("cxa079 to hxa079, hf layout\n77 tensors (77 copied, 12 of them from the teacher)"))
            #expect(second.out.contains("the layer uses the teacher's attention"))
            let flat = try run(
                target("hybrid"), "-o", target("hybrid.pth.zst"), "--layout", "rwkv-infer", "--dtype", "f16")
            #expect(
                flat.status == 0 && flat.out.contains("hxa079, hf to rwkv-infer layout\n77 tensors (77 transformed)"))
            let look = try CommandLineTool.run([
                "inspect", target("hybrid.pth.zst"), "--config", target("hybrid") + "/config.json",
            ])
            #expect(look.out.contains("architecture: hxa079, rwkv-infer layout") && look.out.contains("RGRG"))
            #expect(
                try names(in: directory) == [
                    "cxa079-none.json", "hxa079-1,3.json", "hybrid", "hybrid.pth.zst", "hybrid.pth.zst.conversion.json",
                    "student",
                ])
        }
    }

    @Test func carriesTokenizersAlong() throws {
        try withTemporaryDirectory { directory in
            let source = directory.appending(path: "source")
            try FileManager.default.copyItem(atPath: Repository.fixture("models/llama"), toPath: source.path)
            for name in ["tokenizer.json", "special_tokens_map.json", "notes.txt"] {
                try name.write(to: source.appending(path: name), atomically: false, encoding: .utf8)
            }
            let target = directory.appending(path: "target")
            #expect(try run(source.path, "-o", target.path).status == 0)
            let config = try Data(contentsOf: target.appending(path: "config.json"))
            #expect(try config == Data(contentsOf: source.appending(path: "config.json")))
            #expect(
                try names(in: target) == [
                    "config.json", "conversion.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
                ])
            #expect(
                try String(contentsOf: target.appending(path: "tokenizer.json"), encoding: .utf8) == "tokenizer.json")
        }
    }

    @Test func replacesOnlyWhatItMayReplace() throws {
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "x.pth")
            try Data("mine".utf8).write(to: file)
            let refused = try run("fixtures/models/llama", "-o", file.path)
            #expect(
                refused.status == 73
                    && refused.err == "rwkv-ckpt: \(file.path): already exists; --force replaces it\n")
            #expect(try Data(contentsOf: file) == Data("mine".utf8))
            #expect(try run("fixtures/models/llama", "-o", file.path, "--force").status == 0)
            #expect(try Checkpoint.open(file.path).tensorCount == 30)

            let model = directory.appending(path: "model")
            try FileManager.default.createDirectory(at: model, withIntermediateDirectories: true)
            #expect(try run("fixtures/models/llama", "-o", model.path).status == 0)
            #expect(try run("fixtures/models/qwen3", "-o", model.path).status == 73)
            // --force removes the files of an earlier conversion, but does not remove any other files.
            #expect(
                try run("fixtures/models/qwen3", "-o", model.path, "--force", "--max-shard-size", "30KB").status == 0)
            let shards = try names(in: model)
            #expect(shards.count == 7 && !shards.contains("model.safetensors"))
            try Data("mine".utf8).write(to: model.appending(path: "notes.txt"))
            let kept = try run("fixtures/models/llama", "-o", model.path, "--force")
            #expect(kept.status == 73 && kept.err.contains("the directory contains files that this tool did not write"))
            #expect(try names(in: model) == shards + ["notes.txt"])
            #expect(try names(in: directory) == ["model", "x.pth", "x.pth.conversion.json"])
            // The output can replace the input.
            let own = directory.appending(path: "own.safetensors")
            #expect(try run("fixtures/models/llama", "-o", own.path).status == 0)
            #expect(try run(own.path, "-o", own.path, "--force", "--dtype", "f32").status == 0)
            #expect(try Checkpoint.open(own.path).tensors.allSatisfy { $0.dtype == .f32 })
        }
    }

    @Test func keepsWhatLinksLeadTo() throws {
        try withTemporaryDirectory { directory in
            let precious = directory.appending(path: "precious.txt")
            try Data("mine".utf8).write(to: precious)
            let target = directory.appending(path: "x.pth")
            #expect(try run("fixtures/models/llama", "-o", target.path).status == 0)
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: target.path)
            let manifest = directory.appending(path: "x.pth.conversion.json")
            try FileManager.default.removeItem(at: manifest)
            try FileManager.default.createSymbolicLink(at: manifest, withDestinationURL: precious)
            #expect(try run("fixtures/models/llama", "-o", target.path, "--force").status == 0)
            #expect(try Data(contentsOf: precious) == Data("mine".utf8))
            #expect(try Data(contentsOf: manifest).count > 1000)
            let mode = try FileManager.default.attributesOfItem(atPath: target.path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            // A directory in place of an output file cannot come from this tool, so it is not removed.
            let model = directory.appending(path: "model")
            #expect(try run("fixtures/models/llama", "-o", model.path).status == 0)
            try FileManager.default.createDirectory(
                at: model.appending(path: "tokenizer.json"), withIntermediateDirectories: true)
            #expect(try run("fixtures/models/llama", "-o", model.path, "--force").status == 73)
            #expect(try names(in: directory) == ["model", "precious.txt", "x.pth", "x.pth.conversion.json"])
        }
    }

    /// Inputs that do not belong together give a one-line error and status 65 or 64, and no files are written.
    @Test func refusesBeforeItWrites() throws {
        try withTemporaryDirectory { directory in
            let plans = directory.appending(path: "plans")
            try FileManager.default.createDirectory(at: plans, withIntermediateDirectories: true)
            let all = try makePlan("cxa079", keeping: "none", in: plans)
            let other = try makePlan("cxa076", keeping: "none", in: plans)
            let text = try String(contentsOfFile: all, encoding: .utf8)
            func changed(_ name: String, _ old: String, _ new: String) throws -> String {
                let path = plans.appending(path: name).path
                #expect(text.contains(old))
                try text.replacing(old, with: new).write(toFile: path, atomically: false, encoding: .utf8)
                return path
            }
            let huge = try changed("huge.json", "\"decay\": 256", "\"decay\": 65537")
            let infinite = try changed("infinite.json", "\"receptance\": 1.0", "\"receptance\": 1e999")
            let large = try changed("large.json", "\"receptance\": 1.0", "\"receptance\": 1e39")
            let unknown = try changed("unknown.json", "\"decay_ramp_with_heads\"", "\"exec\"")
            let surprising = try surprisingModel(in: plans)
            let target = directory.appending(path: "target").path
            let out = ["-o", target]
            let cases: [([String], Int32, String)] = [
                (["fixtures/models/llama", "--plan", all] + out, 65, "the plan was made for a different teacher"),
                (
                    ["fixtures/models/qwen3", "--plan", huge] + out, 65,
                    "the rank is out of range (ranks.decay)"
                ),
                (["fixtures/models/qwen3", "--plan", infinite] + out, 65, "projection_factors.receptance"),
                (["fixtures/models/qwen3", "--plan", unknown] + out, 65, "initialisers.decay.base"),
                (["fixtures/models/qwen3", "--plan", "fixtures/models/qwen3/config.json"] + out, 65, "(schema)"),
                (["fixtures/models/hxa079", "--plan", all] + out, 65, "the plan was made for a different teacher"),
                (
                    ["fixtures/models/cxa079", "--teacher", "fixtures/models/qwen3", "--plan", other] + out, 65,
                    "the plan is for a different kind of student"
                ),
                (
                    ["fixtures/models/cxa079", "--teacher", "fixtures/models/qwen3"] + out, 65,
                    "--teacher requires --plan"
                ),
                (
                    ["fixtures/models/quantised-fp8", "--layout", "rwkv-infer"] + out, 65,
                    "its weights are quantised with fp8"
                ),
                (
                    ["fixtures/models/qwen3", "--layout", "fla"] + out, 65,
                    "qwen3 has no such layout: expected hf, found fla"
                ),
                (
                    ["fixtures/eagle-finch/x060.pth", "--layout", "rwkvinside"] + out, 65,
                    "x060 has no such layout: expected hf, official, fla, found rwkvinside"
                ),
                (
                    ["fixtures/decoder-students/phi3", "--layout", "rwkv-infer"] + out, 65,
                    "with the body of phi3 has no such layout: expected hf, rwkvinside, found rwkv-infer"
                ),
                (
                    ["fixtures/models/cxa079.pth", "--layout", "hf"] + out, 65,
                    "the result's config.json needs a value that is not known: rms_norm_eps; use --config to pass a config.json that sets it"
                ),
                (
                    ["fixtures/models/adapter-rwkvinside.pt", "--layout", "hf", "--variant", "hxa079"] + out, 65, ""
                ),
                (
                    ["fixtures/models/adapter-lora", "--layout", "hf"] + out, 65,
                    "the checkpoint is not a model of a known family"
                ),
                (
                    ["fixtures/models/qwen3", "--adapter", "fixtures/models/adapter-rwkvinside.pt"] + out, 65,
                    "the adapter changes a tensor that the model does not have"
                ),
                (
                    ["fixtures/models/hxa079", "--adapter", "fixtures/models/adapter-rwkvinside.pt"] + out, 65,
                    "set it with --adapter-scale"
                ),
                (
                    [surprising, "--layout", "rwkv-infer", "--config", "fixtures/models/hxa079/config.json"] + out, 65,
                    "a tensor has no place in the output (tensor \"model.layers.0.self_attn.surprise\"); --allow-unused"
                ),
                (
                    ["fixtures/pytorch/special.pth", "-o", target + ".safetensors"], 65,
                    "tensors have no place in the output (tensor \"coo\")"
                ),
                (["fixtures/malformed/index-absolute"] + out, 65, ""),
                (["fixtures/malformed-pytorch/danger-reduce"] + out, 65, "os.system"),
                (["nothing-there"] + out, 66, "cannot be opened"),
                (["fixtures/models/llama", "-o", "/nowhere/at/all"], 73, "cannot be created"),
                (["fixtures/models/llama", "-o", target, "--layout", "nonsense"], 64, ""),
                (["fixtures/models/llama", "-o", target, "--dtype-for", "nonsense=f32"], 64, ""),
                (["fixtures/models/llama", "-o", target + ".pth", "--max-shard-size", "1MB"], 64, "one file"),
                (["fixtures/models/llama", "-o", target, "--adapter-scale", "1"], 64, "--adapter"),
                (["fixtures/models/llama", "-o", target + ".pt"], 64, "-o must not end in .pt"),
                (
                    ["fixtures/models/llama", "-o", target + String(repeating: "x", count: 250) + ".pth"], 73,
                    "File name too long"
                ),
                (["fixtures/models/qwen3", "--plan", large] + out, 65, "projection_factors.receptance"),
            ]
            for (arguments, status, message) in cases {
                let output = try CommandLineTool.run(["convert"] + arguments)
                #expect(output.status == status && output.out.isEmpty, "\(arguments): \(output.status) \(output.err)")
                #expect(message.isEmpty || output.err.contains(message), "\(arguments): \(output.err)")
                if status != 64 {
                    let lines = output.err.split(separator: "\n").filter { !$0.contains("warning: ") }
                    #expect(lines.count == 1, "\(arguments): \(output.err)")
                }
                #expect(try names(in: directory) == ["plans"], "\(arguments)")
            }
            let allowed = try CommandLineTool.run(
                [
                    "convert", surprising, "--layout", "rwkv-infer", "--config", "fixtures/models/hxa079/config.json",
                    "-o", target, "--allow-unused", "*.surprise",
                ])
            #expect(
                allowed.status == 0
                    && allowed.out.contains(
                        "1 tensor dropped (allowed to be unused): model.layers.0.self_attn.surprise")
            )
        }
    }

    /// Writes the model hxa079 with an additional unknown tensor.
    private func surprisingModel(in directory: URL) throws -> String {
        let path = directory.appending(path: "surprising.safetensors").path
        var bytes = try Data(contentsOf: URL(filePath: Repository.fixture("models/hxa079/model.safetensors")))
        let length = Int(bytes.prefix(8).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
        let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
        let end = bytes.count - 8 - length
        let changed =
            header.trimmingCharacters(in: .whitespaces).dropLast()
            + #","model.layers.0.self_attn.surprise":{"dtype":"U8","shape":[1],"data_offsets":[\#(end),\#(end + 1)]}}"#
        bytes.replaceSubrange(
            0..<8 + length, with: withUnsafeBytes(of: UInt64(changed.utf8.count)) { Data($0) } + Data(changed.utf8))
        try (bytes + [0]).write(to: URL(filePath: path))
        return path
    }

    // MARK: Interruptions

    /// Calls a closure with a temporary directory and the path of a model.
    ///
    /// The size of the model is 200 MB, so its conversion takes long enough to be interrupted.
    private func withLargeModel(_ body: (URL, String) throws -> Void) throws {
        try withTemporaryDirectory { directory in
            let source = directory.appending(path: "large.safetensors")
            try writeSafetensors((0..<20).map { ("layer.\($0).weight", [5_000_000]) }, to: source)
            try body(directory, source.path)
        }
    }

    @Test func leavesNothingThatLooksFinishedWhenItIsKilled() throws {
        try withLargeModel { directory, source in
            for (number, name) in ["a.safetensors", "b.pth", "c", "d.pth.zst", "e.safetensors"].enumerated() {
                let target = directory.appending(path: name).path
                let arguments = [
                    "convert", source, "-o", target, "--dtype", number == 4 ? "keep" : "f16", "--max-shard-size",
                    "50MB",
                ]
                let killed = try CommandLineTool.run(
                    name == "c" ? arguments : arguments.dropLast(2),
                    signal: (SIGKILL, .after(Double.random(in: 0.02...0.3))))
                #expect([0, -SIGKILL].contains(killed.status), "\(killed.err)")
                for found in try names(in: directory)
                where found.hasPrefix(name) && !found.hasSuffix(".conversion.json") {
                    let path = directory.appending(path: found).path
                    // The output is either complete or cannot be opened.
                    if let checkpoint = try? Checkpoint.open(path) {
                        #expect(checkpoint.tensorCount == 20)
                        _ = try checkpoint.scan(Array(checkpoint.tensors), statistics: false, sha256: true, threads: 2)
                    } else {
                        #expect(found != name)
                    }
                }
                let again = try CommandLineTool.run((name == "c" ? arguments : arguments.dropLast(2)) + ["--force"])
                #expect(again.status == 0, "\(again.err)")
                #expect(try Checkpoint.open(target).tensorCount == 20)
            }
        }
    }

    @Test func leavesNothingWhenItIsInterrupted() throws {
        try withLargeModel { directory, source in
            for name in ["a.safetensors.zst", "b"] {
                let output = try CommandLineTool.run(
                    ["convert", source, "-o", directory.appending(path: name).path, "--dtype", "f32"],
                    signal: (SIGINT, .after(0.05)))
                let found = try names(in: directory).filter { $0.hasPrefix(name) }
                // The tool can finish before the signal arrives, or receive it before it has installed its handler.
                if output.status == 130 || output.status == -SIGINT {
                    #expect(found.isEmpty, "\(found)")
                } else {
                    #expect(output.status == 0)
                }
                if output.status == 130 { #expect(output.err.contains("cancelled")) }
            }
        }
    }

    @Test func refusesWhatTheDiskHasNoRoomFor() throws {
        try withTemporaryDirectory { directory in
            let source = directory.appending(path: "huge.safetensors")
            // The tensors have a total size of eight terabytes, but take no disk space.
            try writeSafetensors([("w", [2_000_000_000_000]), ("v", [2_000_000_000_000])], to: source)
            for name in ["x.safetensors", "x.pth", "x"] {
                let output = try run(source.path, "-o", directory.appending(path: name).path)
                #expect(
                    output.status == 74 && output.err.contains("not enough disk space: expected 80000"), "\(output.err)"
                )
            }
            #expect(try names(in: directory) == ["huge.safetensors"])
        }
    }

    /// A preloaded library makes writes fail as if the disk were full, although there was enough free space at the
    /// start.
    @Test func keepsTheOldTargetWhenTheDiskIsFull() throws {
        try withLargeModel { directory, source in
            let library = directory.appending(path: "disk_full.so").path
            let compiler = Process()
            compiler.executableURL = URL(filePath: "/usr/bin/env")
            compiler.arguments = ["clang", "-shared", "-fPIC", "-o", library, Repository.fixture("faults/disk_full.c")]
            try compiler.run()
            compiler.waitUntilExit()
            try #require(compiler.terminationStatus == 0)
            for name in ["a.safetensors", "b.pth", "c.pth.zst", "d"] {
                let target = directory.appending(path: name)
                #expect(try run("fixtures/models/llama", "-o", target.path).status == 0)
                let before = try names(in: directory)
                let arguments = ["convert", source, "-o", target.path, "--force"]
                let output = try CommandLineTool.run(
                    arguments,
                    environment: ["LD_PRELOAD": library, "DISK_FULL_AFTER": name.contains("zst") ? "1000" : "30000000"])
                #expect(output.status == 74 && output.out.isEmpty)
                #expect(output.err.contains("cannot be written: No space left on device"), "\(output.err)")
                #expect(try names(in: directory) == before)
                #expect(try Checkpoint.open(target.path).tensorCount == 30)
                #expect(try CommandLineTool.run(arguments).status == 0)
            }
        }
    }
}
