import ArgumentParser
import CheckpointFiles
import CheckpointReports
import RWKVEvaluation
import RWKVInference

struct Verify: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Says whether a model is what another is, or where it stops being so.",
        usage: """
            rwkv-ckpt verify rwkv7.pth rwkv7-fla
            rwkv-ckpt verify Qwen3-8B student --report --html verify.html
            rwkv-ckpt verify logits.safetensors student
            rwkv-ckpt verify Qwen3-8B merged --tokens-file text.u16 --limit kl_mean=1e-3
            """,
        discussion: """
            REFERENCE is a model, or recorded logits with their tokens. Both are run on the same tokens (two sequences of 128 from a seed \
            if none are given); every layer of the candidate is also run on the reference's own input, so that the block is named that \
            gives something else first. Where a conversion's manifest stands beside the candidate, all tensors are held against it.

            Limits follow from what was rounded between the two: nothing, weights to F16 or BF16, or all that was computed to BF16. \
            --report judges nothing, for students before training, which are meant to differ.

            Exit status: 0 they match, or --report, 1 they differ, 64 wrong usage, 65 an input is malformed, 66 no such input, 73 the \
            page cannot be created, 74 reading or writing failed, 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("What it is held against.", valueName: "REFERENCE"), completion: .file())
    var reference: String

    @Argument(help: ArgumentHelp("The model to verify.", valueName: "CANDIDATE"), completion: .file())
    var candidate: String

    @OptionGroup var input: TokenOptions

    @Flag(name: .customLong("report"), help: "Judge nothing but what is broken.")
    var isReport = false

    @Option(
        help: ArgumentHelp(
            "Another limit, 0 or more: \(VerificationLimits.names.joined(separator: ", ")), of which top1 is at most 1.",
            valueName: "NAME=VALUE"))
    var limit: [Limit] = []

    @Option(help: ArgumentHelp("Write a page with the curves.", valueName: "FILE"), completion: .file())
    var html: String?

    @OptionGroup var model: ModelOptions
    @OptionGroup var run: RunOptions

    @Flag(help: "Replace the page if it exists.")
    var force = false

    @Flag(help: "Print the report as one JSON document (schemas/verify.schema.json).")
    var json = false

    func report() throws {
        var warnings = run.warnings
        let opened = try Checkpoint.open(reference, temporaryDirectory: temporaryDirectory())
        let recorded = try RecordedLogits(opened)
        if recorded != nil, input.isGiven {
            throw ValidationError("--tokens and --tokens-file do not go with recorded logits, which have their own.")
        }
        let model = try self.model.model(
            try Checkpoint.open(candidate, temporaryDirectory: temporaryDirectory()), warnings: &warnings)
        let against =
            try recorded.map { VerificationReference.recorded($0) }
            ?? .model(self.model.model(opened, isReference: true, warnings: &warnings))
        if !json { warnings.forEach(printWarning) }
        let given = try input.given()
        let tokens = recorded?.tokens ?? given ?? .seeded(vocabulary: model.vocabulary)
        if let html, opened.isFile(at: html) || model.checkpoint.isFile(at: html) {
            throw CheckpointError(.cannotCreate, path: html, "it is a file of what is verified")
        }
        // Before the work, as it may not be possible.
        var page: UnfinishedFile?
        if let html { page = try UnfinishedFile(path: html, replaces: force) }
        let bar = ProgressBar { countText($0) + " tokens" }
        let progress = WorkProgress { bar.show($0, of: $1) }
        let verification = try interruptible(progress) {
            defer { bar.clear() }
            return try Verification(
                of: model, against: against, on: tokens,
                limits: Dictionary(limit.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 }), isReport: isReport,
                try run.loaded(), progress: progress)
        }
        let report = VerificationReport(
            verification, isSeeded: recorded == nil && given == nil, warnings: warnings)
        // The page last: where the disk is full, the report was made all the same.
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
        if let file = consume page {
            try file.write(Array(report.html.utf8))
            try file.commit()
        }
        if verification.verdict == .differs { throw ExitCode(1) }
    }
}

/// `nmse=1e-6`.
struct Limit: ExpressibleByArgument {
    let name: String
    let value: Double

    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, VerificationLimits.names.contains(parts[0]), let value = Double(parts[1]), value >= 0,
            value.isFinite, parts[0] != "top1" || value <= 1
        else { return nil }
        (name, self.value) = (parts[0], value)
    }
}
