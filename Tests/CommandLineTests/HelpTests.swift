import Foundation
import TestSupport
import Testing

/// What `--help` says, and what a user sees who mistypes a command.
@Suite struct HelpTests {
    private static let commands = [
        "inspect", "diff", "plan", "convert", "logits", "verify", "distill", "bench", "bench wkv", "bench forward",
        "bench train",
    ]

    private func help(_ command: String) throws -> String {
        let output = try CommandLineTool.run(
            command.split(separator: " ").map(String.init) + ["--help"], environment: ["COLUMNS": "80"])
        #expect(output.status == 0 && output.err.isEmpty, "\(output)")
        return output.out
    }

    @Test(arguments: [""] + commands)
    func beginsWithExamples(command: String) throws {
        let text = try help(command)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines[0].hasPrefix("OVERVIEW: ") && lines[1].isEmpty && lines[2] == "EXAMPLES:", "\(text)")
        #expect(text.contains("\nUSAGE: \("rwkv-ckpt " + command)"), "\(text)")
        #expect(lines.allSatisfy { $0.count <= 80 }, "\(lines.filter { $0.count > 80 })")
    }

    @Test(arguments: commands.filter { $0 != "bench" })
    func groupsOptions(command: String) throws {
        let text = try help(command).trimmingCharacters(in: .newlines)
        let sections = text.components(separatedBy: "\n\n")
        let titles = sections.compactMap { $0.split(separator: "\n").first }.filter { $0.hasSuffix(":") }
        #expect(titles.suffix(2) == ["OUTPUT:", "OPTIONS:"], "\(titles)")
        #expect(sections.last?.contains("--json") == false && sections.dropLast().last?.contains("--json") == true)
    }

    /// Without the files that they name, the examples must fail because of the files, not because of their options.
    @Test(arguments: [""] + commands.filter { !$0.hasPrefix("bench") })
    func givesExamplesThatParse(command: String) throws {
        let text = try help(command).replacing("\\\n", with: "")
        let examples = text.split(separator: "\n").filter { $0.hasPrefix("  rwkv-ckpt ") }
        #expect((2...5).contains(examples.count))
        try withTemporaryDirectory { directory in
            for example in examples {
                let words = example.split(separator: " ").dropFirst().map { $0.trimmingCharacters(in: ["'"]) }
                let output = try CommandLineTool.run(words, in: directory)
                #expect(output.status == 66, "\(example): \(output)")
            }
        }
    }

    /// A misspelt option is reported as unknown, not as the one that is missing without it.
    @Test(arguments: [
        (["plan", "x", "--target", "hxa079", "--gqa-layer", "3"], "--gqa-layer", "--gqa-layers"),
        (["plan", "x", "--target", "hxa079", "--keep-gqa", "3", "--min-gap", "2", "--sed", "1"], "--sed", "--seed"),
        (["convert", "x", "-o", "y", "--adaptr", "lora", "--adapter-scale", "2"], "--adaptr", "--adapter"),
    ])
    func reportsAMisspeltOption(arguments: [String], option: String, meant: String) throws {
        let output = try CommandLineTool.run(arguments)
        #expect(output.status == 64 && output.out.isEmpty)
        #expect(
            output.err.hasPrefix(
                "Error: Unknown option '\(option)'. Did you mean '\(meant)'?\nUsage: rwkv-ckpt \(arguments[0]) "),
            "\(output.err)")
    }

    @Test(arguments: [
        (["inspekt", "file"], "'inspekt'. Did you mean 'inspect'?", "rwkv-ckpt"),
        (["plna", "--help"], "'plna'. Did you mean 'plan'?", "rwkv-ckpt"),
        (["bench", "wvk"], "'wvk'. Did you mean 'wkv'?", "rwkv-ckpt bench"),
        (["model.safetensors"], "'model.safetensors'.", "rwkv-ckpt"),
    ])
    func suggestsASubcommand(arguments: [String], problem: String, command: String) throws {
        let output = try CommandLineTool.run(arguments)
        #expect(output.status == 64 && output.out.isEmpty)
        #expect(
            output.err == """
                Error: Unknown subcommand \(problem)
                Usage: \(command) <subcommand> [options]
                  See '\(command) --help' for more information.

                """)
    }

    @Test(arguments: [
        ["plan", "fixtures/models/qwen3", "--target", "hxa079", "--gqa-layers", "1", "-o", "/nowhere/plan.json"],
        ["convert", "fixtures/models/llama", "-o", "/nowhere/student"],
        ["logits", "fixtures/logits/qwen3", "--tokens", "1", "-o", "/nowhere/logits.safetensors"],
    ])
    func namesAMissingDirectory(arguments: [String]) throws {
        let output = try CommandLineTool.run(arguments)
        #expect(output.status == 73 && output.out.isEmpty)
        #expect(output.err.hasSuffix(": cannot be created: the directory /nowhere/ does not exist\n"), "\(output.err)")
    }

    @Test(arguments: [
        ["plan", "--target", "hxa079", "--gqa-layers", "1"], ["inspect"], ["convert", "-o", "/nowhere/x"],
    ])
    func saysThatNothingIsDownloaded(command: [String]) throws {
        let output = try CommandLineTool.run(command + ["Qwen/Qwen3-8B"])
        #expect(output.status == 66 && output.out.isEmpty)
        #expect(
            output.err.hasPrefix("rwkv-ckpt: Qwen/Qwen3-8B: ") && output.err.contains("nothing is downloaded"),
            "\(output.err)")
        let local = try CommandLineTool.run(command + ["fixtures/nothing"])
        #expect(local.status == 66 && !local.err.contains("nothing is downloaded"), "\(local.err)")
    }

    @Test func seesThatModelsAreSwapped() throws {
        let distill = try CommandLineTool.run([
            "distill", "fixtures/logits/hxa079", "fixtures/planted-teacher", "--stage", "1", "--steps", "1",
            "--tokens-file", "fixtures/distillation/tokens.npy", "-o", "/nowhere/x",
        ])
        #expect(distill.status == 65)
        #expect(distill.err.contains("the teacher has one: give the teacher first"), "\(distill.err)")
        let verify = try CommandLineTool.run([
            "verify", "fixtures/planted-teacher", "fixtures/planted-teacher/reference-bf16.safetensors",
        ])
        #expect(verify.status == 65)
        #expect(verify.err.contains("recorded logits cannot be the candidate"), "\(verify.err)")
    }
}
