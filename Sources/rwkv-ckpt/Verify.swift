import ArgumentParser
import Bytes
import CheckpointFiles
import CheckpointReports
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVReports
import TokenFiles

struct Verify: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Checks whether two models agree, and where they first diverge.",
        usage: "rwkv-ckpt verify <REFERENCE> <CANDIDATE> [options]",
        discussion: """
            EXAMPLES:
              # Check that a converted file is the same model.
              rwkv-ckpt verify rwkv7.pth rwkv7-fla
              # Check a model against logits that were recorded earlier.
              rwkv-ckpt verify logits.safetensors student
              # Show how far the logits move if a file is read as another variant.
              rwkv-ckpt verify student student --candidate-variant hxa07d --report
              # Show how far an untrained student is from its teacher.
              rwkv-ckpt verify Qwen3-8B student --report --html verify.html

            REFERENCE is a model, or recorded logits with their tokens. The models run on the same tokens: those stored with the \
            recorded logits, those given by --tokens or --tokens-file, or otherwise two sequences generated from a fixed seed. Every \
            block of the candidate also runs on the input that the same block receives in the reference model, to find the first \
            block whose output differs. If a conversion's manifest is next to the candidate, all tensors are checked against it.

            The limits depend on how the rounding of the two models differs: not at all, in the weights (F16 or BF16), or in all \
            results (BF16). Use --report for untrained students, which are expected to differ.

            Exit status: 0 the models match, or --report found nothing broken; 1 they differ, values are not finite, \
            or tensors contradict the manifest; 64 usage error; 65 an input is malformed; 66 no such input; 73 the \
            HTML report cannot be created; 74 reading or writing failed; 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("Reference model, or recorded logits.", valueName: "REFERENCE"), completion: .file())
    var reference: String

    @Argument(help: ArgumentHelp("Model to verify.", valueName: "CANDIDATE"), completion: .file())
    var candidate: String

    @OptionGroup(title: "Tokens") var input: TokenOptions
    @OptionGroup(title: "Verdict") var verdict: VerdictOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Per-model overrides") var sides: SideOptions
    @OptionGroup(title: "Machine") var run: RunOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    var json: Bool { output.json }

    func report() throws {
        var warnings = run.warnings
        let opened = try Checkpoint.open(reference, temporaryDirectory: temporaryDirectory())
        let recorded = try RecordedLogits(opened)
        if recorded != nil, input.isGiven {
            throw ValidationError(
                "--tokens and --tokens-file cannot be used with recorded logits, which include their tokens.")
        }
        let checkpoint = try Checkpoint.open(candidate, temporaryDirectory: temporaryDirectory())
        guard try RecordedLogits(checkpoint) == nil else {
            throw CheckpointError(
                .unsupported, path: candidate, "recorded logits cannot be the candidate",
                advice: "give them first, and the model second")
        }
        if recorded != nil, sides.referenceConfig != nil || sides.referenceVariant != nil {
            throw ValidationError("--reference-config and --reference-variant cannot be used with recorded logits.")
        }
        let model = try self.model.model(checkpoint, sides.candidate(self.model), warnings: &warnings)
        let against =
            try recorded.map { VerificationReference.recorded($0) }
            ?? .model(self.model.model(opened, sides.reference(self.model), warnings: &warnings))
        if !json { warnings.forEach(printWarning) }
        let given = try input.given()
        let tokens = recorded?.tokens ?? given ?? .seeded(vocabulary: model.vocabulary)
        try check(
            output.html, isNoFileOf: [opened, checkpoint],
            or: [self.model.config, sides.referenceConfig, sides.candidateConfig, input.tokensFile])
        // Created before the work, so that a path that cannot be written fails at once.
        var page: UnfinishedFile?
        if let html = output.html { page = try UnfinishedFile(path: html, replaces: output.force) }
        let bar = ProgressBar { countText($0) + " tokens" }
        let progress = WorkProgress { bar.show($0, of: $1) }
        let verification = try interruptible(progress) {
            defer { bar.clear() }
            return try Verification(
                of: model, against: against, on: tokens,
                limits: Dictionary(verdict.limit.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 }),
                isReport: verdict.isReport,
                try run.loaded(), progress: progress)
        }
        let report = VerificationReport(
            verification, isSeeded: recorded == nil && given == nil, warnings: warnings)
        // The page comes last, so that the report is printed even if the disk is full.
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
        if let file = consume page {
            try file.write(Array(report.html.utf8))
            try file.commit()
        }
        if verification.verdict == .differs { throw ExitCode(1) }
    }
}

extension Verify {
    /// Options that describe one of the two models, and have priority over those that describe both.
    struct SideOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "config.json of the reference. Default: the one next to it, otherwise --config.", valueName: "FILE"),
            completion: .file())
        var referenceConfig: String?

        @Option(
            help: ArgumentHelp(
                "Variant of the reference. Default: recognised, otherwise --variant.", valueName: "NAME"))
        var referenceVariant: String?

        @Option(
            help: ArgumentHelp(
                "config.json of the candidate. Default: --config, otherwise the one next to it.", valueName: "FILE"),
            completion: .file())
        var candidateConfig: String?

        @Option(
            help: ArgumentHelp(
                "Variant of the candidate. Default: --variant, otherwise recognised.", valueName: "NAME"))
        var candidateVariant: String?

        func validate() throws {
            try ModelOptions.check(referenceVariant, "--reference-variant")
            try ModelOptions.check(candidateVariant, "--candidate-variant")
        }

        func reference(_ both: ModelOptions) -> ModelHints {
            var hints = both.fallbackHints
            hints.configuration = referenceConfig
            hints.variant = referenceVariant
            return hints
        }

        func candidate(_ both: ModelOptions) -> ModelHints {
            ModelHints(configuration: candidateConfig ?? both.config, variant: candidateVariant ?? both.variant)
        }
    }

    struct VerdictOptions: ParsableArguments {
        @Flag(
            name: .customLong("report"),
            help:
                "Report differences without a verdict; only non-finite values and tensors that contradict the manifest cause failure."
        )
        var isReport = false

        @Option(
            help: ArgumentHelp(
                "Override one limit: \(VerificationLimits.names.joined(separator: ", ")). 0 or greater; top1 at most 1; KL in nats. May be repeated.",
                valueName: "NAME=VALUE"))
        var limit: [Limit] = []
    }

    struct OutputOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp("Output file for the report with charts, as HTML. Default: no file.", valueName: "FILE"),
            completion: .file())
        var html: String?

        @Flag(help: "Replace the HTML report if it exists.")
        var force = false

        @Flag(help: "Print the report as one JSON document (schemas/verify.schema.json).")
        var json = false
    }
}

/// A limit as an option's value: `nmse=1e-6`.
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
