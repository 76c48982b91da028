import Foundation
import TestSupport
import Testing

/// Tests that usage errors name the option, the value and the permitted values, and show the usage of the command.
@Suite struct UsageTests {
    private static let model = "fixtures/models/qwen3"
    private static let convert = ["convert", model, "-o", "/nowhere/out"]
    private static let distill = [
        "distill", model, model, "--tokens-file", "nowhere.npy", "-o", "/nowhere/out", "--stage", "1", "--steps", "1",
    ]
    private static let plan = ["plan", "fixtures/models/published/reka-flash-3.1.json", "--target", "hxa079"]

    /// Commands, their options, and the words with which the error states the permitted values.
    ///
    /// The last option in each case has an invalid value.
    private static let cases: [(command: [String], options: [String], allowed: String)] = [
        (plan, ["--gqa-layers=1", "--context=0"], "between 1 and 1099511627776, not 0"),
        (plan, ["--gqa-layers=1", "--seed=-1"], "0 or greater, not -1"),
        (plan, ["--gqa-layers=1", "--min-gap=0"], "1 or greater, not 0"),
        (plan, ["--gqa-layers=-1"], "0 or greater, not -1"),
        (plan, ["--gqa-layers=9999"], "0 to 43 attention layers out of 44, not 9999"),
        (plan, ["--kv-cache=1MB"], "budget of 1.00 MB"),
        (plan, ["--keep-gqa=44"], "there is no layer 44: the teacher has layers 0 to 43"),
        (plan, ["--gqa-layers=1", "--require=50"], "there is no layer 50: the teacher has layers 0 to 43"),
        (plan, ["--gqa-layers=1", "--forbid=50"], "there is no layer 50: the teacher has layers 0 to 43"),
        (plan, ["--published=nobody"], "no published model nobody; the published models are reka-flash-3.1, "),
        (convert, ["--max-shard-size=0"], "1 or greater, not 0"),
        (convert, ["--adapter=nowhere", "--adapter-scale=inf"], "a finite number, not inf"),
        (["logits", model, "-o", "/nowhere/x.safetensors"], ["--threads=0"], "between 1 and 1024, not 0"),
        (["verify", model, model], ["--threads=1025"], "between 1 and 1024, not 1025"),
        (distill, ["--stage=3"], "between 1 and 2, not 3"),
        (distill, ["--steps=0"], "between 1 and 1073741824, not 0"),
        (distill, ["--batch=4097"], "between 1 and 4096, not 4097"),
        (distill, ["--context=0"], "between 1 and 1048576, not 0"),
        (distill, ["--accumulate=0"], "between 1 and 4096, not 0"),
        (distill, ["--warmup=-1"], "between 0 and 1073741824, not -1"),
        (distill, ["--checkpoint-every=0"], "between 1 and 1073741824, not 0"),
        (distill, ["--learning-rate=0"], "a finite number, above 0, not 0.0"),
        (distill, ["--final-learning-rate=-1"], "a finite number, above 0, not -1.0"),
        (distill, ["--clip=nan"], "a finite number, above 0, not nan"),
        (distill, ["--ce-weight=-0.5"], "a finite number, 0 or greater, not -0.5"),
        (distill, ["--threads=0"], "between 1 and 1024, not 0"),
        (distill, ["--batch=2048", "--context=1024"], "2097152 tokens per batch; at most 1048576"),
        (["bench", "wkv"], ["--heads=0"], "between 1 and 1024, not 0"),
        (["bench", "wkv"], ["--head-size=1025"], "between 1 and 1024, not 1025"),
        (["bench", "wkv"], ["--tokens=0"], "between 1 and 1048576, not 0"),
        (["bench", "wkv"], ["--runs=1001"], "between 1 and 1000, not 1001"),
        (["bench", "wkv"], ["--threads=0"], "between 1 and 1024, not 0"),
        (["bench", "wkv"], ["--heads=1024", "--tokens=1048576"], "elements per matrix; at most 16777216"),
        (["bench", "forward"], ["--tokens=0"], "between 1 and 1048576, not 0"),
        (["bench", "forward"], ["--runs=0"], "between 1 and 1000, not 0"),
        (["bench", "forward", model], ["--dtype=f32"], "random weights"),
        (["bench", "train"], ["--batch=0"], "between 1 and 4096, not 0"),
        (["bench", "train"], ["--context=0"], "between 1 and 1048576, not 0"),
        (["bench", "train"], ["--runs=0"], "between 1 and 1000, not 0"),
    ]

    @Test(arguments: cases.indices)
    func namesOptionValueAndRange(number: Int) throws {
        let (command, options, allowed) = Self.cases[number]
        let words = command[0] == "bench" ? "bench \(command[1])" : command[0]
        // Usage errors come from swift-argument-parser, which does not write a JSON document.
        for json in [[], ["--json"]] {
            let output = try CommandLineTool.run(command + options + json)
            let context: Comment = "\(command + options): \(output)"
            #expect(output.status == 64 && output.out.isEmpty, context)
            let option = options.last?.split(separator: "=").first ?? ""
            #expect(output.err.hasPrefix("Error: --") && output.err.contains(option), context)
            #expect(output.err.contains(allowed), context)
            #expect(output.err.contains("\nUsage: rwkv-ckpt \(words)"), context)
            #expect(output.err.hasSuffix("\n  See 'rwkv-ckpt \(words) --help' for more information.\n"), context)
        }
    }

    private static let values: [(command: [String], options: [String], allowed: String)] = [
        (plan, ["--gqa-layers=many"], "0 or greater"),
        (plan, ["--gqa-layers=1", "--context=many"], "1 to 1099511627776"),
        (plan, ["--gqa-layers=1", "--min-gap=many"], "1 or more"),
        (plan, ["--gqa-layers=1", "--seed=many"], "0 or greater"),
        (plan, ["--kv-cache=many"], "such as 512MiB"),
        (convert, ["--max-shard-size=many"], "at least 1 byte"),
        (convert, ["--adapter=nowhere", "--adapter-scale=many"], "a finite number"),
        (["logits", model, "-o", "/nowhere/x.safetensors"], ["--threads=many"], "1 to 1024"),
        (["verify", model, model], ["--limit=nmse=-1"], "0 or greater"),
        (distill, ["--steps=99999999999999999999"], "1 to 1073741824"),
        (distill, ["--batch=many"], "1 to 4096"),
        (distill, ["--context=many"], "1 to 1048576"),
        (distill, ["--accumulate=many"], "1 to 4096"),
        (distill, ["--warmup=many"], "0 to 1073741824"),
        (distill, ["--checkpoint-every=many"], "1 to 1073741824"),
        (distill, ["--learning-rate=many"], "above 0"),
        (distill, ["--final-learning-rate=many"], "above 0"),
        (distill, ["--clip=many"], "above 0"),
        (distill, ["--ce-weight=many"], "0 or greater"),
        (distill, ["--seed=-1"], "0 or greater"),
        (distill, ["--temperature=2,0"], "above 0"),
        (distill, ["--train-adapter=lora:0"], "1 to 65536"),
        (["bench", "wkv"], ["--heads=many"], "1 to 1024"),
        (["bench", "wkv"], ["--head-size=many"], "1 to 1024"),
        (["bench", "wkv"], ["--tokens=many"], "1 to 1048576"),
        (["bench", "wkv"], ["--runs=many"], "1 to 1000"),
        (["bench", "forward"], ["--tokens=many"], "1 to 1048576"),
        (["bench", "forward"], ["--runs=many"], "1 to 1000"),
        (["bench", "forward"], ["--dtype=keep"], "'f32', 'bf16' or 'f16'"),
        (["bench", "train"], ["--batch=many"], "1 to 4096"),
        (["bench", "train"], ["--context=many"], "1 to 1048576"),
        (["bench", "train"], ["--runs=many"], "1 to 1000"),
    ]

    /// swift-argument-parser rejects values that are not numbers, and shows the option's help.
    @Test(arguments: values.indices)
    func namesWhatIsAllowedWhereItIsNoNumber(number: Int) throws {
        let (command, options, allowed) = Self.values[number]
        let words = command[0] == "bench" ? "bench \(command[1])" : command[0]
        let output = try CommandLineTool.run(command + options)
        let given = (options.last ?? "").split(separator: "=", maxSplits: 1)
        #expect(output.status == 64 && output.out.isEmpty, "\(output)")
        #expect(output.err.hasPrefix("Error: The value '\(given[1])' is invalid for '\(given[0]) "), "\(output)")
        #expect(output.err.contains("\nHelp:  \(given[0]) ") && output.err.contains(allowed), "\(output)")
        #expect(output.err.contains("\nUsage: rwkv-ckpt \(words)"), "\(output)")
    }
}
