import Foundation
import TestSupport
import Testing

@Suite struct PlanTests {
    private let reka = "fixtures/models/published/reka-flash-3.1.json"

    private func run(_ arguments: String...) throws -> CommandLineTool.Output {
        try CommandLineTool.run(["plan"] + arguments)
    }

    @Test func reducesRekasCacheToASeventh() throws {
        let output = try run(reka, "--target", "hxa079", "--published", "reka-flash-3.1")
        #expect(output.status == 0 && output.err.isEmpty)
        #expect(output.out.contains("RRRRRRRRGRRRRRRGRRRRRRGRRRRRRGRRRRRRGRRRRRRG  6 gqa, 38 rwkv7"))
        #expect(output.out.contains("135,168 B        18,432 B  reduced to 1/7\n"))
        #expect(output.out.contains("89.7 MB"))
    }

    @Test func takesTheLayersOfEveryWayOfChoosing() throws {
        struct Document: Decodable {
            struct Layer: Decodable { let kind: String }
            let target: String
            let layers: [Layer]
        }
        let qwen = "fixtures/models/published/qwen3-8b.json"
        let ways: [(String, [String], [Int])] = [
            ("hxa079", ["--keep-gqa", "3,7"], [3, 7]),
            ("hxa079", ["--keep-gqa", "7,0"], [0, 7]),
            ("cxa079", ["--keep-gqa", "none"], []),
            ("cxa079", ["--keep-gqa", "35"], [35]),
            ("cxa076", ["--keep-gqa", "all"], Array(0..<36)),
            ("hxa079", ["--published", "qwen3-8b"], [7, 15, 23, 31, 33, 35]),
            ("hxa079", ["--gqa-layers", "6", "--spacing", "last-of-group"], [5, 11, 17, 23, 29, 35]),
            ("hxa079", ["--gqa-layers", "3", "--spacing", "uniform"], [5, 17, 29]),
            ("hxa079", ["--gqa-layers", "2", "--spacing", "last-of-group", "--require", "0"], [0, 35]),
            ("hxa079", ["--gqa-layers", "2", "--spacing", "last-of-group", "--forbid", "35,17"], [16, 34]),
            ("hxa079", ["--gqa-layers", "3", "--spacing", "last-of-group", "--require", "34,35"], [11, 34, 35]),
            ("hxa079", ["--kv-cache", "8GB", "--min-gap", "9", "--spacing", "last-of-group"], [8, 17, 26, 35]),
            ("hxa079", ["--kv-cache", "100GB"], Array(1..<36)),
            ("hxa079", ["--kv-cache", "512MiB", "--context", "32768", "--spacing", "last-of-group"], [11, 23, 35]),
        ]
        for (target, way, layers) in ways {
            let output = try CommandLineTool.run(["plan", qwen, "--json", "--target", target] + way)
            #expect(output.status == 0, "\(way): \(output.err)")
            let document = try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
            #expect(document.layers.indices.filter { document.layers[$0].kind == "gqa" } == layers, "\(way)")
            #expect(document.target == (target == "cxa079" && !layers.isEmpty ? "hxa079" : target))
            #expect(try CommandLineTool.run(["plan", qwen, "--json", "--target", target] + way).out == output.out)
        }
    }

    @Test func plansTheSameForACheckpointAndItsConfiguration() throws {
        let options = ["--target", "hxa079", "--gqa-layers", "2", "--json"]
        for name in ["llama", "reka", "qwen2", "qwen2-mha", "qwen3"] {
            let byTensors = try CommandLineTool.run(["plan", "fixtures/models/\(name)"] + options)
            let byConfiguration = try CommandLineTool.run(["plan", "fixtures/models/\(name)/config.json"] + options)
            #expect(name == "qwen2-mha" || byTensors.status == 0, "\(byTensors.err)")
            #expect(byTensors.out == byConfiguration.out && byTensors.status == byConfiguration.status)
        }
    }

    @Test func writesAPlanWholeOrNotAtAll() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "plan.json").path(percentEncoded: false)
            let options = [reka, "--target", "hxa079", "--gqa-layers", "3", "--json"]
            let printed = try CommandLineTool.run(["plan"] + options + ["-o", path])
            #expect(printed.status == 0)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == printed.out)
            let again = try CommandLineTool.run(["plan"] + options + ["--seed", "1", "-o", path])
            #expect(again.status == 73 && again.out.isEmpty)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == printed.out)
            let forced = try CommandLineTool.run(["plan"] + options + ["--seed", "1", "-o", path, "--force"])
            #expect(forced.status == 0)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == forced.out && forced.out != printed.out)
            #expect(try CommandLineTool.run(["plan"] + options + ["-o", "/nowhere/plan.json"]).status == 73)
            let pipe = directory.appending(path: "pipe").path(percentEncoded: false)
            mkfifo(pipe, 0o600)
            for place in [pipe, directory.path(percentEncoded: false)] {
                #expect(try CommandLineTool.run(["plan"] + options + ["-o", place, "--force"]).status == 73)
            }
            unlink(pipe)
            let link = directory.appending(path: "link").path(percentEncoded: false)
            symlink("plan.json", link)
            #expect(try CommandLineTool.run(["plan"] + options + ["-o", link, "--force"]).status == 0)
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == "plan.json")
            unlink(link)
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: directory.path(percentEncoded: false)) == [
                    "plan.json"
                ])
        }
    }

    @Test func writesAPage() throws {
        try withTemporaryDirectory { directory in
            let options = ["plan", reka, "--target", "hxa079", "--published", "reka-flash-3.1"]
            let page = directory.appending(path: "plan.html").path(percentEncoded: false)
            let output = try CommandLineTool.run(options + ["--html", page])
            #expect(try output.status == 0 && output.out == CommandLineTool.run(options).out)
            let text = try String(contentsOfFile: page, encoding: .utf8)
            let markup = try Markup(text)
            for name in ["title", "h1"] { #expect(markup.all(name)[0].text == "plan: llama to hxa079, 44 layers") }
            #expect(markup.all("dd")[0].text == "\(reka) (llama)")
            let cells = markup.all("rect").map(\.text).filter { $0.hasPrefix("layer ") }
            #expect(cells.count == 44 && cells[8] == "layer 8: gqa" && cells[9] == "layer 9: rwkv7")
            let words = markup.all("td").map(\.text)
            for word in ["as published: reka-flash-3.1", "reduced to 1/7", "89.7 MB", "1,048,576", "19.4 GB"] {
                #expect(words.contains(word), "\(word)")
            }
            // One point for each power of two from 1,024 to 1,048,576 tokens.
            for model in ["teacher", "student"] {
                #expect(markup.all("path").count { $0.text.hasPrefix("\(model), tokens of context ") } == 11)
            }
            #expect(markup.all("path").contains { $0.text == "teacher, tokens of context 16,384: 2.21 GB" })
            #expect(markup.all("line").contains { $0.attributes["class"] == "mark" })

            let again = try CommandLineTool.run(options + ["--seed", "7", "--html", page])
            #expect(again.status == 73 && again.out.isEmpty && again.err.contains("--force"))
            #expect(try String(contentsOfFile: page, encoding: .utf8) == text)
            #expect(try CommandLineTool.run(options + ["--seed", "7", "--html", page, "--force"]).status == 0)
            #expect(try Markup(String(contentsOfFile: page, encoding: .utf8)).all("dd").last?.text == "7")
        }
    }

    @Test func aPageListsWhatTimeMixingChanges() throws {
        try withTemporaryDirectory { directory in
            let page = directory.appending(path: "plan.html").path(percentEncoded: false)
            let output = try run("fixtures/decoders/gemma2", "--target", "hxa079", "--keep-gqa", "3", "--html", page)
            try #require(output.status == 0, "\(output.err)")
            let items = try Markup(String(contentsOfFile: page, encoding: .utf8)).all("li").map(\.text)
            #expect(
                items.count == 3 && items[0].hasPrefix("a window of 8 tokens") && items[0].hasSuffix("(layers 0, 2)"))
            let none = try run(
                "fixtures/decoders/gemma2", "--target", "cxa079", "--keep-gqa", "none", "--html", page, "--force")
            try #require(none.status == 0, "\(none.err)")
            #expect(
                try Markup(String(contentsOfFile: page, encoding: .utf8)).all("p").map(\.text) == [
                    "No layer keeps attention."
                ])
        }
    }

    @Test func planAndPageAppearTogetherOrNotAtAll() throws {
        // The name of the directory is shown in the page.
        try withTemporaryDirectory { parent in
            let directory = parent.appending(path: #"<b>&"quoted""#)
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            let config = directory.appending(path: "config.json")
            try FileManager.default.copyItem(at: Repository.root.appending(path: reka), to: config)
            let arguments = ["plan", directory.path + "/config.json", "--target", "hxa079", "--gqa-layers", "3"]
            func plan(_ more: String...) throws -> CommandLineTool.Output {
                try CommandLineTool.run(arguments + more, in: directory)
            }
            func names() throws -> [String] {
                try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
            }
            let before = try Data(contentsOf: config)
            for (html, problem) in [
                ("missing/plan.html", "cannot be created"), ("./plan.json", "it is also the plan file"),
                ("config.json", "it is an input of the command"), (".", "not a regular file"),
            ] {
                let output = try plan("-o", "plan.json", "--html", html, "--force")
                #expect(output.status == 73 && output.out.isEmpty && output.err.contains(problem), "\(output)")
                #expect(try names() == ["config.json"] && Data(contentsOf: config) == before)
            }
            #expect(try plan("-o", "missing/plan.json", "--html", "plan.html").status == 73)
            #expect(try plan("-o", "config.json", "--force").status == 73)
            #expect(try names() == ["config.json"] && Data(contentsOf: config) == before)

            #expect(try plan("-o", "plan.json", "--html", "plan.html").status == 0)
            #expect(try names() == ["config.json", "plan.html", "plan.json"])
            let page = try String(contentsOf: directory.appending(path: "plan.html"), encoding: .utf8)
            #expect(!page.contains("<b>"))
            let markup = try Markup(page)
            #expect(markup.all("dd")[0].text.hasSuffix(#"/<b>&"quoted"/config.json (llama)"#))
            #expect(!markup.all("title")[0].text.contains("quoted") && !markup.all("h1")[0].text.contains("quoted"))
            // The page alone exists: the plan is not written either.
            try FileManager.default.removeItem(at: directory.appending(path: "plan.json"))
            #expect(try plan("-o", "plan.json", "--html", "plan.html").status == 73)
            #expect(try names() == ["config.json", "plan.html"])
        }
    }

    private static let refusals: [(Int32, [String], String)] = [
        (64, ["--target", "hxa079"], "Give exactly one of"),
        (64, ["--target", "hxa079", "--keep-gqa", "3", "--gqa-layers", "2"], "Give exactly one of"),
        (64, ["--target", "hxa080", "--keep-gqa", "3"], "not hxa080"),
        (64, ["--target", "hxa079", "--keep-gqa", "44"], "no layer 44"),
        (64, ["--target", "hxa079", "--keep-gqa", "-1"], ""),
        (64, ["--target", "hxa079", "--keep-gqa", "3,3"], ""),
        (64, ["--target", "hxa079", "--keep-gqa", "3", "--min-gap", "2"], "require --gqa-layers or --kv-cache"),
        (64, ["--target", "hxa079", "--published", "qwen3-8b"], "has 36 layers, but the teacher has 44"),
        (64, ["--target", "hxa079", "--published", "nobody"], "no published model nobody"),
        (64, ["--target", "hxa079", "--gqa-layers", "45"], "0 to 43 attention layers out of 44"),
        (64, ["--target", "hxa079", "--gqa-layers", "44"], "not 44 (layer 0"),
        (64, ["--target", "hxa079", "--gqa-layers", "9223372036854775807"], "not 9223372036854775807"),
        (64, ["--target", "hxa079", "--gqa-layers", "23", "--min-gap", "2"], "0 to 22 attention layers out of 44"),
        (64, ["--target", "hxa079", "--gqa-layers", "1", "--require", "3,4"], "2 to 43 attention layers out of 44"),
        (
            64, ["--target", "hxa079", "--gqa-layers", "2", "--require", "3", "--forbid", "3"],
            "layer 3 is both required and forbidden"
        ),
        (64, ["--target", "hxa079", "--kv-cache", "1MB"], "RWKV state alone (104 MB) exceeds the budget of 1.00 MB"),
        (64, ["--target", "hxa079", "--kv-cache", "1 parsec"], ""),
        (64, ["--target", "hxa079", "--kv-cache", "512MiB", "--context", "0"], "--context"),
        (64, ["--target", "hxa079", "--gqa-layers", "2", "--gqa-rope", "perhaps"], ""),
    ]

    @Test(arguments: refusals.indices)
    func refusesOptionsThatDoNotGo(number: Int) throws {
        let (status, options, problem) = Self.refusals[number]
        let output = try CommandLineTool.run(["plan", reka] + options)
        #expect(
            output.status == status && output.out.isEmpty && (problem.isEmpty || output.err.contains(problem)),
            "\(output)")
    }

    @Test func refusesBudgetsThatNoAllowedStudentFits() throws {
        let output = try run(
            "fixtures/models/published/qwen3-0.6b.json", "--target", "hxa079", "--kv-cache", "15MB", "--context", "100",
            "--min-gap", "4")
        #expect(output.status == 64 && output.out.isEmpty, "\(output)")
        #expect(output.err.contains("24.9 MB with 7 attention layers"))
    }

    @Test(arguments: [
        ("fixtures/models/quantised-gptq", "quantised with gptq"),
        ("fixtures/models/hxa079", "is not supported as a teacher"),
        ("fixtures/models/rwkv7.pth", "is not supported as a teacher"),
        ("fixtures/diff/a.pth", "the model's family is not known"),
        ("fixtures/malformed/gap", "there is a gap"),
    ])
    func refusesTeachersWithTheReason(path: String, problem: String) throws {
        let output = try run(path, "--target", "hxa079", "--gqa-layers", "1")
        #expect(output.status == 65 && output.out.isEmpty && output.err.contains(problem), "\(output)")
        #expect(output.err.split(separator: "\n").count == 1)
    }

    @Test(arguments: [
        (#"{"hidden_size": 1, "hidden_size": 2}"#, "an object has the key \"hidden_size\" twice (byte 20)"),
        ("[1,2]", "config.json is not a JSON object: found an array"),
    ])
    func saysWhatIsWrongWithAConfiguration(text: String, problem: String) throws {
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "config.json")
            try Data(text.utf8).write(to: file)
            let path = file.path(percentEncoded: false)
            let output = try run(path, "--target", "hxa079", "--gqa-layers", "1")
            #expect(output.status == 65 && output.err == "rwkv-ckpt: \(path): \(problem)\n", "\(output)")
            let bench = try CommandLineTool.run(["bench", "forward", path])
            #expect(bench.status == 65 && bench.err == "rwkv-ckpt: \(path): \(problem)\n", "\(bench)")
        }
    }

    @Test func refusesWhatItCannotConvertFaithfully() throws {
        let config =
            #""model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99"#
        for (keys, problem) in [
            (#""rms_norm_eps": 1e-6, "rope_theta": 1e6"#, nil),
            // These are the defaults of transformers.
            (#""use_cache": true, "sliding_window": 4096"#, nil),
            (#""rope_scaling": {"type": "linear"}"#, "requires factor"),
            (#""rope_scaling": {"type": 3, "factor": 2}"#, "rope_type"),
            (#""quantization_config": {"quant_method": "fp8"}"#, "quantised with fp8"),
            (#""num_key_value_heads": 3"#, "evenly"),
            (#""rms_norm_eps": 1e-6, "rope_theta": 1e6, "attn_logit_softcapping": 50"#, "attn_logit_softcapping"),
            (#""use_sliding_window": true, "layer_types": ["sliding_attention"]"#, "layer_types"),
            (#""rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_scaling": {"rope_type": "longrope"}"#, "longrope"),
            (#""rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "gelu"#, nil),
            (#""rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "gelu""#, "hidden_act"),
        ] {
            try withTemporaryDirectory { directory in
                let file = directory.appending(path: "config.json")
                try Data("{\(config), \(keys)}".utf8).write(to: file)
                let output = try run(file.path(percentEncoded: false), "--target", "hxa079", "--gqa-layers", "1")
                if keys.hasSuffix(#""gelu"#) {
                    #expect(output.status == 65, "a document that is cut short: \(output)")
                } else {
                    #expect(
                        output.status == (problem == nil ? 0 : 65)
                            && (problem.map { output.err.contains($0) } ?? output.err.isEmpty),
                        "\(keys): \(output)")
                }
            }
        }
    }
}
