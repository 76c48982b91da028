import CheckpointFiles
import Foundation
import TestSupport
import Testing

/// Tests that run the commands `logits` and `verify`.
@Suite struct VerifyTests {
    private struct Document: Decodable {
        struct Logits: Decodable {
            let max_abs: Double
            let nmse: Double?
            let greedy_agreement: Int?
        }
        struct Divergence: Decodable {
            let layer: Int?
            let block: String
        }
        struct Audit: Decodable {
            let tensors: Int
            let copies_of_reference: Int
            let problems: [String]
        }
        let verdict: String
        let logits: Logits?
        let first_divergence: Divergence?
        let audit: Audit?
        let failure: String?
    }

    private func run(_ arguments: [String], in directory: URL) throws -> CommandLineTool.Output {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let fixtures = directory.appending(path: "fixtures")
        if !FileManager.default.fileExists(atPath: fixtures.path) {
            try FileManager.default.createSymbolicLink(
                at: fixtures, withDestinationURL: Repository.root.appending(path: "fixtures"))
        }
        return try CommandLineTool.run(arguments, in: directory)
    }

    private func make(_ arguments: String..., in directory: URL) throws {
        let output = try run(arguments, in: directory)
        #expect(output.status == 0, "\(arguments): \(output.err)")
    }

    private func verify(
        _ reference: String, _ candidate: String, _ options: String..., in directory: URL
    ) throws -> (status: Int32, document: Document) {
        let output = try run(["verify", reference, candidate, "--json"] + options, in: directory)
        return (output.status, try JSONDecoder().decode(Document.self, from: Data(output.out.utf8)))
    }

    @Test func aModelIsComparedWithItselfReadAsAnotherVariant() throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/hxa07/cxa07d"
            let same = try verify(model, model, "--candidate-variant", "cxa07d", in: directory)
            #expect(same.status == 0 && same.document.verdict == "match")
            for side in ["--candidate-variant", "--reference-variant"] {
                let other = try verify(model, model, side, "cxa079", in: directory)
                #expect(other.status == 1 && other.document.first_divergence?.layer == 0)
            }
            let other = try verify(
                model, model, "--reference-config", model + "/config-079.json", "--report", in: directory)
            #expect(other.status == 0 && other.document.first_divergence?.block == "mixer")
            let refused = try run(
                ["verify", model + "/reference.safetensors", model, "--reference-variant", "cxa079"], in: directory)
            #expect(refused.status == 64 && refused.err.contains("recorded logits"))
        }
    }

    @Test func aConversionNamesTheVariantThatItWasReadAs() throws {
        try withTemporaryDirectory { directory in
            try make("convert", "fixtures/hxa07/hxa07b", "-o", "c", "--variant", "hxa07c", in: directory)
            let found = try verify("fixtures/hxa07/hxa07b", "c", "--reference-variant", "hxa07c", in: directory)
            #expect(found.status == 0 && found.document.verdict == "match")
            let training = try run(
                [
                    "distill", "fixtures/models/qwen3", "fixtures/hxa07/hxa07b", "--variant", "hxa07c", "--stage", "1",
                    "--steps", "1", "--tokens-file", "fixtures/distillation/tokens.npy", "-o", "trained",
                ], in: directory)
            #expect(training.status == 65 && training.err.contains("rwkv_architecture"), "\(training.err)")
        }
    }

    /// A student that keeps its teacher's tensor names is not its own source.
    @Test func aCopyOfAConversionIsNotItsSource() throws {
        try withTemporaryDirectory { directory in
            let teacher = "fixtures/models/qwen3"
            try make("plan", teacher, "--target", "rad-rwkv7", "--keep-gqa", "3", "-o", "plan.json", in: directory)
            try make("convert", teacher, "--plan", "plan.json", "-o", "student", in: directory)
            let found = try verify("student", "student", in: directory)
            #expect(found.status == 0 && found.document.verdict == "match")
        }
    }

    /// The logits of the fast kernels equal those of the strict kernels, up to fp32 rounding.
    @Test(
        "each family, on each instruction set",
        arguments: [
            "llama", "llama-bias", "qwen2", "qwen3", "rwkv7/rwkv7.pth", "cxa076", "cxa076r", "cxa079", "hxa079",
            "hxa079-gqa-first", "hxa079-no-norm",
        ])
    func instructionSets(_ name: String) throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/logits/\(name)"
            try make("logits", model, "--kernels", "strict", "-o", "strict.safetensors", in: directory)
            for set in ["baseline", "avx2", "avx512"] {
                let output = try run(
                    ["verify", "strict.safetensors", model, "--isa", set, "--json"], in: directory)
                if output.status == 64, output.err.contains("on this machine, not \(set)") { continue }
                let document = try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
                #expect(output.status == 0 && document.verdict == "match", "\(set)")
                #expect((document.logits?.nmse ?? 1) < 1e-10, "\(set)")
            }
        }
    }

    @Test func findsLayoutsToBeTheSameToTheBit() throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/logits/rwkv7/rwkv7.pth"
            try make("convert", model, "-o", "fla", "--layout", "fla", in: directory)
            try make("convert", "fla", "-o", "back.pth", "--layout", "official", in: directory)
            try make("convert", model, "-o", "f32.safetensors", "--dtype", "f32", in: directory)
            for candidate in ["fla", "back.pth", "f32.safetensors"] {
                let found = try verify(model, candidate, "--kernels", "strict", in: directory)
                #expect(found.status == 0 && found.document.verdict == "match", "\(candidate)")
                #expect(found.document.logits?.max_abs == 0 && found.document.audit?.problems == [])
            }
            let student = "fixtures/logits/hxa079"
            try make("convert", student, "-o", "infer.pth", "--layout", "rwkv-infer", in: directory)
            try make("convert", student, "-o", "inside.pth", "--layout", "rwkvinside", in: directory)
            for candidate in ["infer.pth", "inside.pth"] {
                let found = try verify(
                    student, candidate, "--config", student + "/config.json", "--kernels", "strict", in: directory)
                #expect(found.status == 0 && found.document.logits?.max_abs == 0, "\(candidate)")
            }
        }
    }

    @Test func findsAStudentThatKeptAllAttentionToBeItsTeacher() throws {
        try withTemporaryDirectory { directory in
            for (teacher, target) in [("qwen3", "hxa079"), ("llama-bias", "cxa076"), ("qwen2", "hxa079")] {
                let path = "fixtures/logits/" + teacher
                try make(
                    "plan", path, "--target", target, "--keep-gqa", "all", "--gqa-rope", "on", "-o", "\(teacher).json",
                    in: directory)
                try make("convert", path, "--plan", "\(teacher).json", "-o", teacher, in: directory)
                let found = try verify(path, teacher, in: directory)
                #expect(found.status == 0 && found.document.verdict == "match", "\(teacher)")
                #expect(found.document.logits?.max_abs == 0 && found.document.logits?.greedy_agreement == 32)
                #expect(found.document.audit?.copies_of_reference ?? 0 > 20)
            }
            try make(
                "plan", "fixtures/logits/qwen3", "--target", "hxa079", "--keep-gqa", "1,3", "-o", "plan.json",
                in: directory)
            try make("convert", "fixtures/logits/qwen3", "--plan", "plan.json", "-o", "hybrid", in: directory)
            let judged = try verify("fixtures/logits/qwen3", "hybrid", in: directory)
            #expect(judged.status == 1 && judged.document.verdict == "differs")
            #expect(judged.document.first_divergence?.layer == 0 && judged.document.first_divergence?.block == "mixer")
            let report = try verify(
                "fixtures/logits/qwen3", "hybrid", "--report", "--html", "page.html", in: directory)
            #expect(report.status == 0 && report.document.verdict == "report")
            let page = try String(contentsOf: directory.appending(path: "page.html"), encoding: .utf8)
            #expect(page.hasPrefix("<!DOCTYPE html>") && page.contains("<svg") && !page.contains("src="))
            let markup = try Markup(page)
            for name in ["title", "h1"] { #expect(markup.all(name)[0].text == "verify: report") }
            let facts = markup.all("dd").map(\.text)
            #expect(facts.starts(with: ["fixtures/logits/qwen3 (qwen3)", "hybrid (hxa079)"]))
            #expect(facts.contains("hybrid/conversion.json"), "the audit")
            #expect(markup.all("td").contains { $0.text == "rotation of attention" })
            // Both models' layers are shown, once below each chart.
            #expect(markup.all("text").count { $0.text == "reference" } == 2)
            #expect(markup.all("rect").count { $0.text == "layer 0: gqa" } == 2)
            #expect(markup.all("rect").count { $0.text == "layer 0: rwkv7" } == 2)
            #expect(markup.all("text").contains { $0.text == "first divergence: mixer" })
            #expect(markup.all("text").contains { $0.text == "block limit 1e-06" })
            // The MLPs are the teacher's own, so their error is zero, which is below every decade.
            func heights(_ titles: String) -> [Double] {
                markup.all("path").filter { $0.text.contains(titles) }.compactMap { path in
                    path.attributes["d"]?.prefix { $0 != "m" }.split(separator: " ").last.flatMap { Double($0) }
                }
            }
            let zeros = heights("mlp, layer")
            #expect(zeros.count == 6 && Set(zeros).count == 1)
            #expect(try heights("mixer, layer").allSatisfy { try $0 < #require(zeros.first) - 20 })
        }
    }

    @Test func pagesShowTheVerdictAndEscapePaths() throws {
        try withTemporaryDirectory { directory in
            let name = #"<i>"a&b"</i>"#
            try FileManager.default.createDirectory(
                at: directory.appending(path: #"<i>"a&b"<"#), withIntermediateDirectories: true)
            let candidate = directory.appending(path: name)
            try FileManager.default.copyItem(
                at: Repository.root.appending(path: "fixtures/logits/qwen3"), to: candidate)
            func page(_ options: String..., status: Int32) throws -> (text: String, markup: Markup) {
                let output = try run(
                    ["verify", "fixtures/logits/qwen3", name, "--html", "page.html", "--force"] + options,
                    in: directory)
                #expect(output.status == status, "\(output.err)")
                let text = try String(contentsOf: directory.appending(path: "page.html"), encoding: .utf8)
                return (text, try Markup(text))
            }
            let match = try page(status: 0)
            #expect(match.markup.all("title")[0].text == "verify: match")
            #expect(match.markup.all("h1")[0].attributes["class"] == "good")
            #expect(!match.text.contains("<i>") && !match.text.contains("a&b"))
            #expect(match.markup.all("dd").contains { $0.text == "\(name) (qwen3)" })
            #expect(!match.markup.all("tr").contains { $0.attributes["class"] == "bad" })

            // Another epsilon: the logits differ, and so does a constant.
            let config = candidate.appending(path: "config.json")
            let text = try String(contentsOf: config, encoding: .utf8)
            try Data(text.replacing(#/"rms_norm_eps": [^,\n]*/#, with: #""rms_norm_eps": 0.5"#).utf8).write(to: config)
            let differs = try page(status: 1)
            #expect(differs.markup.all("title")[0].text == "verify: differs")
            #expect(differs.markup.all("h1")[0].attributes["class"] == "bad")
            #expect(
                differs.markup.all("tr").contains { $0.attributes["class"] == "bad" && $0.text.hasSuffix("exceeded") })
            let reasons = differs.markup.all("p").map(\.text)
            #expect(reasons.contains { $0.hasPrefix("limits exceeded: nmse") })
            #expect(reasons.contains("constants that differ: epsilon"))
            #expect(differs.markup.all("td").contains { $0.text == "epsilon" })
        }
    }

    @Test func holdsRecordedLogitsAgainstAModel() throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/logits/cxa079"
            try make("logits", model, "--kernels", "strict", "-o", "logits.safetensors", in: directory)
            try make("logits", model, "--kernels", "strict", "-o", "again.safetensors", "--threads", "1", in: directory)
            #expect(
                try Data(contentsOf: directory.appending(path: "logits.safetensors"))
                    == Data(contentsOf: directory.appending(path: "again.safetensors")))
            let same = try verify("logits.safetensors", model, "--kernels", "strict", in: directory)
            #expect(same.status == 0 && same.document.logits?.max_abs == 0)
            let fast = try verify("logits.safetensors", model, in: directory)
            #expect(fast.status == 0 && fast.document.logits?.max_abs ?? 0 > 0)
            #expect(try verify("logits.safetensors", "fixtures/logits/cxa076", in: directory).status == 1)
            // Another implementation computed these logits in float64.
            #expect(try verify("fixtures/logits/cxa079/reference.safetensors", model, in: directory).status == 0)
        }
    }

    @Test func auditsWhatAConversionLeft() throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/logits/qwen3"
            try make("convert", model, "-o", "copy", in: directory)
            #expect(try verify(model, "copy", in: directory).document.audit?.tensors == 69)
            let file = directory.appending(path: "copy/model.safetensors")
            var bytes = try Data(contentsOf: file)
            bytes[bytes.count - 1] ^= 1
            try bytes.write(to: file)
            let changed = try verify(model, "copy", "--report", in: directory)
            #expect(changed.status == 1 && changed.document.verdict == "differs")
            #expect(changed.document.audit?.problems.count == 1)

            try make("convert", model, "-o", "other", in: directory)
            let manifest = directory.appending(path: "other/conversion.json")
            let text = try String(contentsOf: manifest, encoding: .utf8)
            for (old, new, words) in [
                ("\"copied\": 69", "\"copied\": 68", "do not add up"),
                ("\"name\": \"lm_head.weight\", \"dtype\"", "\"name\": \"lm_head.wrong\", \"dtype\"", "is missing"),
                (
                    "\"name\": \"lm_head.weight\", \"fate\": \"copied\"",
                    "\"name\": \"lm_head.weight\", \"fate\": \"lost\"", "is unknown or incomplete"
                ),
                ("\"name\": \"lm_head.weight\", \"fate\"", "\"name\": \"lm_head.lost\", \"fate\"", "has no fate"),
                ("\"bytes\": ", "\"bytes\": 1", "bytes do not add up"),
                (
                    "\"origin\": \"copied\", \"input\": \"source\", \"from\": \"lm_head",
                    "\"origin\": \"found\", \"input\": \"source\", \"from\": \"lm_head",
                    "is unknown or not among the inputs"
                ),
                ("rwkv-ckpt/conversion/1", "something else", "not a conversion manifest"),
            ] {
                #expect(text.contains(old), "\(old)")
                try text.replacing(old, with: new).write(to: manifest, atomically: true, encoding: .utf8)
                let found = try verify(model, "other", in: directory)
                #expect(
                    found.status == 1 && found.document.audit?.problems.contains { $0.contains(words) } == true,
                    "\(words): \(found.document.audit?.problems as Any)")
            }
            // The manifest does not apply to a file that the conversion did not write.
            try text.write(to: manifest, atomically: true, encoding: .utf8)
            try FileManager.default.copyItem(
                at: directory.appending(path: "other/model.safetensors"),
                to: directory.appending(path: "other/mine.safetensors"))
            let mine = try verify(model, "other/mine.safetensors", in: directory)
            #expect(mine.status == 0 && mine.document.audit == nil)
        }
    }

    /// Two tensors that are recorded as shared only with each other do not correspond to any stored tensor.
    @Test(arguments: [true, false]) func auditsWhatIsSharedWithNothing(hasHash: Bool) throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/models/rwkv7.pth"
            try make("convert", model, "-o", "copy", in: directory)
            let path = directory.appending(path: "copy/conversion.json")
            var manifest = try #require(
                try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as? [String: Any])
            var tensors = try #require(manifest["tensors"] as? [[String: Any]])
            for (name, other) in [("ghost.a", "ghost.b"), ("ghost.b", "ghost.a")] {
                var ghost = tensors[0]
                ghost.merge(["name": name, "shared_with": other]) { $1 }
                if !hasHash { ghost["sha256"] = nil }
                tensors.append(ghost)
            }
            manifest["tensors"] = tensors
            var totals = try #require(manifest["totals"] as? [String: Any])
            var output = try #require(totals["output"] as? [String: Any])
            for key in ["tensors", "copied"] { output[key] = try #require(output[key] as? Int) + 2 }
            totals["output"] = output
            manifest["totals"] = totals
            try JSONSerialization.data(withJSONObject: manifest).write(to: path)
            let problems = try verify(model, "copy", in: directory).document.audit?.problems
            #expect(
                problems?.filter { $0.hasSuffix("is missing") } == ["ghost.a is missing", "ghost.b is missing"])
        }
    }

    @Test func endsBadInputInOneLine() throws {
        try withTemporaryDirectory { directory in
            var missing = try EditableModel(fixture: "logits/qwen3")
            missing.remove("model.layers.3.mlp.up_proj.weight")
            try missing.write(to: directory.appending(path: "missing"))
            var contradicting = try EditableModel(fixture: "logits/qwen3")
            contradicting.configure("hidden_size", 64)
            try contradicting.write(to: directory.appending(path: "contradicting"))
            var broken = try EditableModel(fixture: "logits/qwen3")
            broken["model.layers.3.mlp.up_proj.weight"][0] = .nan
            try broken.write(to: directory.appending(path: "broken"))
            try writeSafetensors(
                [
                    ("tokens", .i64, [1, 2], [Int64(1), 2].withUnsafeBytes { Data($0) }),
                    (
                        "logits", .f32, [1, 2, 96],
                        (0..<192).map { $0 == 100 ? Float.nan : 1 }.withUnsafeBytes { Data($0) }
                    ),
                ], to: directory.appending(path: "nan.safetensors"))
            try "[1, 96]".write(to: directory.appending(path: "beyond.json"), atomically: true, encoding: .utf8)
            try "[[1, 2], [3]]".write(to: directory.appending(path: "ragged.json"), atomically: true, encoding: .utf8)
            try "[1, 2]".write(to: directory.appending(path: "good.json"), atomically: true, encoding: .utf8)
            try "[[]]".write(to: directory.appending(path: "empty.json"), atomically: true, encoding: .utf8)
            let model = "fixtures/logits/qwen3"
            let cases: [([String], Int32, String)] = [
                (["logits", model, "--tokens", "1,96"], 65, "token 1 of sequence 0 is not in the model's vocabulary"),
                (["logits", model, "--tokens-file", "beyond.json"], 65, "beyond.json: token 1"),
                (["logits", model, "--tokens-file", "ragged.json"], 65, "must have the same length"),
                (["logits", model, "--tokens-file", "empty.json"], 65, "no tokens"),
                (["logits", model, "--tokens-file", "nothing.json"], 66, "nothing.json"),
                (["logits", "missing"], 65, "model.layers.3.mlp.up_proj.weight is missing"),
                (["logits", "contradicting"], 65, "implies width 64"),
                (["logits", "broken"], 65, "model.layers.3.mlp.up_proj.weight"),
                (["logits", "fixtures/logits/cxa079/reference.safetensors"], 65, "recognised but not supported"),
                (["logits", "fixtures/models/cxa079.pth"], 65, "rope_theta"),
                (["logits", "fixtures/models/quantised-fp8"], 65, "quantised"),
            ]
            for (arguments, status, words) in cases {
                let output = try run(arguments + ["-o", "out.safetensors"], in: directory)
                #expect(output.status == status && output.err.contains(words), "\(arguments): \(output.err)")
                #expect(output.err.split(separator: "\n").count == 1 && output.out.isEmpty)
                #expect(!FileManager.default.fileExists(atPath: directory.appending(path: "out.safetensors").path))
            }
            for (arguments, status, words) in [
                (["verify", model, "missing"], 65, "is missing"),
                (["verify", model, "fixtures/planted-teacher"], 65, "the vocabulary size differs from that of"),
                (["verify", model, model, "--limit", "speed=1"], 64, "--limit"),
                (
                    ["verify", model, model, "--tokens", "1", "--tokens-file", "x"], 64,
                    "--tokens or --tokens-file, not both"
                ),
                (
                    ["verify", "fixtures/logits/qwen3/reference.safetensors", model, "--tokens", "1"], 64,
                    "which include their tokens"
                ),
                (["logits", model, "-o", "out.pth"], 64, ".safetensors"),
                (["logits", model, "--threads", "0", "-o", "o.safetensors"], 64, "--threads"),
                (["verify", model, model, "--html", "missing"], 73, "missing"),
                (["verify", model, model, "--limit", "top1=2"], 64, "--limit"),
                (
                    ["verify", model, "missing/../broken", "--html", "broken/model.safetensors", "--force"], 73,
                    "broken"
                ),
                (
                    ["verify", model, "missing", "--html", "missing/config.json", "--force"], 65,
                    "up_proj.weight is missing"
                ),
                (
                    ["verify", "broken", model, "--html", "broken/config.json", "--force"], 73,
                    "it is an input of the command"
                ),
                (
                    ["verify", model, model, "--tokens-file", "good.json", "--html", "good.json", "--force"], 73,
                    "it is an input of the command"
                ),
                (["logits", "broken/model.safetensors", "-o", "broken/model.safetensors", "--force"], 73, "broken"),
                (["verify", "nan.safetensors", model], 65, "recorded logits are not finite: token 1 of sequence 0"),
            ] as [([String], Int32, String)] {
                let output = try run(arguments, in: directory)
                #expect(output.status == status && output.err.contains(words), "\(arguments): \(output.err)")
            }
            let notFinite = try verify(model, "broken", in: directory)
            #expect(
                notFinite.status == 1 && notFinite.document.verdict == "differs" && notFinite.document.logits == nil)
            #expect(notFinite.document.failure?.contains("model.layers.3.mlp.up_proj.weight") == true)
        }
    }
}
