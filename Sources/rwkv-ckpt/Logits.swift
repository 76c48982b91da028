import ArgumentParser
import CheckpointFiles
import CheckpointReports
import RWKVEvaluation
import RWKVInference

struct Logits: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "logits",
        abstract: "Runs a model, and records its logits.",
        usage: """
            rwkv-ckpt logits student --tokens 1,2,3 -o logits.safetensors
            rwkv-ckpt logits Qwen3-8B --tokens-file tokens.json -o logits.safetensors
            rwkv-ckpt logits rwkv7.pth --kernels strict -o logits.safetensors
            """,
        discussion: """
            Writes a safetensors file: tokens, I64 [B, T], and logits, F32 [B, T, V]. Without tokens, two sequences of 128 ids are made \
            from a seed, and printed. Weights are used in the type in which they are stored; sums are fp32.

            Exit status: 0 done, 64 wrong usage, 65 an input is malformed or a weight is not finite, 66 no such input, 73 the output \
            cannot be created, 74 reading or writing failed or the disk is too small, 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("The model.", valueName: "MODEL"), completion: .file())
    var path: String

    @OptionGroup var input: TokenOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("Where the logits go.", valueName: "FILE"), completion: .file())
    var output: String

    @OptionGroup var model: ModelOptions
    @OptionGroup var run: RunOptions

    @Flag(help: "Replace the output if it exists.")
    var force = false

    @Flag(help: "Print what was done as one JSON document (schemas/logits.schema.json).")
    var json = false

    func validate() throws {
        guard output.hasSuffix(".safetensors") else {
            throw ValidationError("-o must be a file that ends in .safetensors, not \(output).")
        }
    }

    func report() throws {
        var warnings = run.warnings
        let checkpoint = try Checkpoint.open(path, temporaryDirectory: temporaryDirectory())
        let loaded = try model.model(checkpoint, warnings: &warnings)
        if !json { warnings.forEach(printWarning) }
        guard !checkpoint.isFile(at: output) else {
            throw CheckpointError(.cannotCreate, path: output, "it is the model whose logits are to be recorded")
        }
        let given = try input.given()
        let tokens = given ?? .seeded(vocabulary: loaded.vocabulary)
        let bar = ProgressBar { countText($0) + " tokens" }
        let progress = WorkProgress { bar.show($0, of: $1) }
        try interruptible(progress) {
            defer { bar.clear() }
            try RecordedLogits.record(loaded, tokens, to: output, replaces: force, try run.loaded(), progress: progress)
        }
        let report = LogitsReport(
            loaded.description, path: path, output: output, tokens, isSeeded: given == nil, warnings: warnings)
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }
}
