import ArgumentParser
import Bytes
import CheckpointFiles
import CheckpointReports
import RWKVEvaluation
import RWKVInference
import RWKVReports
import TokenFiles

struct Logits: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "logits",
        abstract: "Runs a model and records its logits.",
        usage: "rwkv-ckpt logits <MODEL> -o <FILE> [options]",
        discussion: """
            EXAMPLES:
              # The logits of one sequence, and of the sequences in a file.
              rwkv-ckpt logits student --tokens 1,2,3 -o logits.safetensors
              rwkv-ckpt logits Qwen3-8B --tokens-file tokens.json -o logits.safetensors
              # The same bits on any x86-64 processor.
              rwkv-ckpt logits rwkv7.pth --kernels strict -o logits.safetensors

            Writes a safetensors file with two tensors: tokens (I64, [B, T]) and logits (F32, [B, T, V]). Weights are used in the \
            dtype in which they are stored; sums are accumulated in fp32.

            Exit status: 0 done; 64 usage error; 65 an input is malformed or a weight is not finite; 66 no such input; 73 the \
            output cannot be created; 74 reading or writing failed or there is too little disk space; 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("Model checkpoint.", valueName: "MODEL"), completion: .file())
    var path: String

    @OptionGroup(title: "Required options") var required: RequiredOptions
    @OptionGroup(title: "Tokens") var input: TokenOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Machine") var run: RunOptions
    @OptionGroup(title: "Output") var result: OutputOptions

    var json: Bool { result.json }

    func report() throws {
        let output = required.output
        var warnings = run.warnings
        let checkpoint = try Checkpoint.open(path, temporaryDirectory: temporaryDirectory())
        let loaded = try model.model(checkpoint, warnings: &warnings)
        if !json { warnings.forEach(printWarning) }
        try check(output, isNoFileOf: [checkpoint], or: [model.config, input.tokensFile])
        let given = try input.given()
        let tokens = given ?? .seeded(vocabulary: loaded.vocabulary)
        let bar = ProgressBar { countText($0) + " tokens" }
        let progress = WorkProgress { bar.show($0, of: $1) }
        try interruptible(progress) {
            defer { bar.clear() }
            try RecordedLogits.record(
                loaded, tokens, to: output, replaces: result.force, try run.loaded(), progress: progress)
        }
        let report = LogitsReport(
            loaded.description, path: path, output: output, tokens, isSeeded: given == nil, warnings: warnings)
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }
}

extension Logits {
    struct RequiredOptions: ParsableArguments {
        @Option(
            name: .shortAndLong, help: ArgumentHelp("Output file, whose name ends in .safetensors.", valueName: "FILE"),
            completion: .file())
        var output: String

        func validate() throws {
            guard output.hasSuffix(".safetensors") else {
                throw ValidationError("-o must be a file that ends in .safetensors, not \(output).")
            }
        }
    }

    struct OutputOptions: ParsableArguments {
        @Flag(help: "Replace the output if it exists.")
        var force = false

        @Flag(help: "Print a summary as one JSON document (schemas/logits.schema.json).")
        var json = false
    }
}
