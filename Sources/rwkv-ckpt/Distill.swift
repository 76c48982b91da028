public import ArgumentParser
import CheckpointFiles
import CheckpointReports
import ModelFamilies
public import RWKVDistillation
import RWKVInference
import RWKVNumerics
import RWKVReports
import TokenFiles

struct Distill: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "distill",
        abstract: "Distils a teacher into a student for a number of steps, to see whether the student learns.",
        usage: """
            rwkv-ckpt distill Qwen3-0.6B student --stage 1 --tokens-file text.u32 --steps 140 -o aligned
            rwkv-ckpt distill Qwen3-0.6B hybrid --stage 2 --tokens-file text.u32 --steps 120 -o distilled
            rwkv-ckpt distill Qwen3-0.6B hybrid --stage 2 --tokens-file text.u32 --steps 120 -o distilled --resume
            """,
        discussion: """
            Stage 1 trains each time mixing to reproduce the output of the teacher's attention for the same input. Stage 2 \
            trains the student's logits to match the teacher's. The output is a model directory with log.jsonl (one line of JSON \
            per step and evaluation), curve.svg and report.html. Trained tensors are F32. A trained adapter is in DIR/adapter; \
            convert merges it.

            A run that a signal stops is saved. With --resume and the same options it continues, and ends with the same bytes as \
            an uninterrupted run; with another instruction set or matrix library it also continues, but warns that the bytes \
            will differ.

            --train takes rules separated by commas; the last rule that matches a weight applies. A rule is a set of weights \
            (mixers, rwkv, attention, projections, mlp or norms) or a shell pattern for tensor names. -RULE freezes its weights, \
            RULE=2 trains them at twice the learning rate, RULE=1/0.1 at the learning rate with a weight decay of 0.1.

            Exit status: 0 done, 64 usage error, 65 an input is malformed or does not match the others, or training failed, 66 \
            no such input, 73 the output cannot be created, 74 reading or writing failed or there is too little disk space, 130 \
            interrupted.
            """)

    @Argument(help: ArgumentHelp("Teacher checkpoint.", valueName: "TEACHER"), completion: .file())
    var teacher: String

    @Argument(help: ArgumentHelp("Student checkpoint.", valueName: "STUDENT"), completion: .file())
    var student: String

    @Option(
        help: ArgumentHelp(
            "Training objective: 1 matches the outputs of individual layers, 2 matches the logits.", valueName: "1|2"))
    var stage: Int

    @Option(
        help: ArgumentHelp(
            "Training tokens: .json, .safetensors (tensor tokens), .npy, .u16, .u32, or .bin next to .idx.",
            valueName: "FILE"),
        completion: .file())
    var tokensFile: String

    @Option(help: ArgumentHelp("Number of optimiser steps: 1 to 1073741824.", valueName: "N"))
    var steps: Int

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Output directory for the trained student, the log and the report.", valueName: "DIR"),
        completion: .directory)
    var output: String

    @Option(help: ArgumentHelp("Sequences per batch: 1 to 4096, with at most 1048576 tokens in all.", valueName: "N"))
    var batch = 8

    @Option(
        help: ArgumentHelp(
            "Tokens per sequence: 1 to 1048576. Default: the length of the longest sequence, at most 512.",
            valueName: "N")
    )
    var context: Int?

    @Option(help: ArgumentHelp("Gradient accumulation: 1 to 4096 batches per optimiser step.", valueName: "N"))
    var accumulate = 1

    @Option(
        help: ArgumentHelp(
            "Learning rate after the warm-up, above 0. Default: 2e-3 in stage 1, 3e-4 in stage 2.", valueName: "RATE"))
    var learningRate: Double?

    @Option(
        help: ArgumentHelp("Learning rate at the end, above 0. Default: 1/100 of --learning-rate.", valueName: "RATE"))
    var finalLearningRate: Double?

    @Option(help: ArgumentHelp("Learning rate schedule; constant ignores --final-learning-rate.", valueName: "NAME"))
    var schedule = LearningRate.Schedule.quarterCosine

    @Option(
        help: ArgumentHelp(
            "Warm-up steps, over which the learning rate rises from 1/100 to its full value: 0 to 1073741824.",
            valueName: "N"))
    var warmup = 10

    @Option(
        help: ArgumentHelp(
            "Maximum global norm of the gradients, above 0; larger gradients are scaled down to it.", valueName: "NORM")
    )
    var clip = 1.0

    @Option(
        help: ArgumentHelp(
            "Seed for shuffling the training sequences and initialising adapters, 0 or greater.", valueName: "N"))
    var seed: UInt64 = 1

    @Option(
        help: ArgumentHelp(
            "Stage 1 loss between the outputs of time mixing and the teacher's attention.", valueName: "NAME"))
    var loss = AlignmentLoss.relativeL2

    @Option(
        help: ArgumentHelp(
            "Whether gradients stop at (detached) or flow through (joined) the first layer's keys and values, which later layers mix in.",
            valueName: "NAME"))
    var firstValues = FirstValuesOption.detached

    @Option(
        help: ArgumentHelp(
            "Stage 2 softmax temperatures, above 0, separated by commas; each applies for an equal share of the steps.",
            valueName: "T,.."))
    var temperature = Temperatures(values: [1])

    @Option(
        help: ArgumentHelp(
            "Which logits the temperature divides: both the student's and the teacher's, or only the teacher's.",
            valueName: "NAME"))
    var temperatureTarget = LogitDivergence.TemperatureTarget.both

    @Option(
        help: ArgumentHelp("Weight of the next-token cross entropy in the stage 2 loss, 0 or greater.", valueName: "W")
    )
    var ceWeight = 0.0

    @Option(
        help: ArgumentHelp(
            "Which weights to train, and how (see above). Default: mixers. Stage 1 trains only time mixing.",
            valueName: "RULES"))
    var train: RuleList?

    @Option(
        help: ArgumentHelp(
            "Train LoRA, DoRA or Bone adapters of rank R, 1 to 65536, instead of the mixers' projections. Default: none.",
            valueName: "lora:R|dora:R|bone:R"))
    var trainAdapter: TrainedAdapters?

    @Option(
        help: ArgumentHelp(
            "Held-out tokens, as for --tokens-file, on which to evaluate the student before and after training. May be repeated.",
            valueName: "FILE"),
        completion: .file())
    var evalTokens: [String] = []

    @Option(
        help: ArgumentHelp("Also evaluate and save every N steps: 1 to 1073741824.", valueName: "N"))
    var checkpointEvery: Int?

    @Flag(help: "Resume the run in the output directory, with the same options; STUDENT is not read.")
    var resume = false

    @OptionGroup var model: ModelOptions
    @OptionGroup var run: RunOptions

    @Flag(help: "Replace the output if an earlier run wrote it.")
    var force = false

    @Flag(help: "Print the report as one JSON document (schemas/distill.schema.json).")
    var json = false

    /// Whether gradients pass through the first layer's keys and values.
    enum FirstValuesOption: String, ExpressibleByArgument, CaseIterable {
        case detached
        case joined
    }

    func validate() throws {
        try check("--stage", stage, in: 1...2)
        try check("--steps", steps, in: 1...1 << 30)
        try check("--batch", batch, in: 1...4096)
        try check("--context", context, in: 1...1 << 20)
        try check("--accumulate", accumulate, in: 1...4096)
        try check("--warmup", warmup, in: 0...1 << 30)
        try check("--checkpoint-every", checkpointEvery, in: 1...1 << 30)
        try Self.checkTokens(batch: batch, context: context ?? 1)
        try check("--learning-rate", isPositive: learningRate)
        try check("--final-learning-rate", isPositive: finalLearningRate)
        try check("--clip", isPositive: clip)
        try check("--ce-weight", isPositive: ceWeight, orZero: true)
    }

    /// Limits the tokens of one batch; `--accumulate` does not count, because its batches are computed one after
    /// another.
    private static func checkTokens(batch: Int, context: Int) throws {
        try check(
            [("--batch", batch), ("--context", context)], total: batch * context, "tokens per batch",
            atMost: 1 << 20)
    }

    private func settings(_ tokens: TokenSequences) throws -> DistillationSettings {
        var rate = LearningRate(learningRate ?? (stage == 1 ? 2e-3 : 3e-4), final: finalLearningRate)
        (rate.schedule, rate.warmUp) = (schedule, warmup)
        var alignment = Alignment()
        (alignment.loss, alignment.propagatesFirstValues) = (loss, firstValues == .joined)
        var divergence = LogitDivergence()
        divergence.propagatesFirstValues = firstValues == .joined
        (divergence.divides, divergence.crossEntropyWeight) = (temperatureTarget, ceWeight)
        var settings = DistillationSettings(
            stage == 1 ? .alignment(alignment) : .divergence(divergence, temperatures: temperature.values),
            steps: steps, learningRate: rate)
        (settings.batch, settings.accumulate, settings.clip, settings.seed) = (batch, accumulate, clip, seed)
        settings.context = context ?? min(512, tokens.sequences.map(\.count).max() ?? 1)
        try Self.checkTokens(batch: batch, context: settings.context)
        if let train { settings.rules = train.rules }
        settings.adapters = trainAdapter
        settings.adapters?.seed = seed
        return settings
    }

    func report() throws {
        var warnings = run.warnings
        let teacher = try model.model(
            Checkpoint.open(self.teacher, temporaryDirectory: temporaryDirectory()), isReference: true,
            warnings: &warnings)
        let checkpoint = try Checkpoint.open(resume ? output : student, temporaryDirectory: temporaryDirectory())
        let description = try model.model(checkpoint, warnings: &warnings).description
        if !json { warnings.forEach(printWarning) }
        let tokens = try TokenSequences(contentsOf: tokensFile)
        let evaluationTokens = try evalTokens.map { try TokenSequences(contentsOf: $0) }
        func makeReport(_ run: DistillationRun) -> DistillationReport {
            DistillationReport(run, teacher: self.teacher, student: student, warnings: warnings)
        }
        var options = DistillationRun.Options()
        (options.evaluationTokens, options.checkpointInterval) = (evaluationTokens, checkpointEvery)
        (options.configuration, options.resumes, options.replaces) = (model.config, resume, force)
        options.pages = { makeReport($0).pages }
        var distillationRun = try DistillationRun(
            Distillation(teacher, checkpoint, description, tokens, settings(tokens)), in: output, options)
        let stepTokens = distillationRun.distillation.settings.tokens
        let bar = ProgressBar { countText($0) + " tokens" }
        let progress = WorkProgress()
        try interruptible(progress) {
            defer { bar.clear() }
            try distillationRun.finish(run.loaded(), progress: progress) { event in
                switch event {
                case .step(let step):
                    bar.show(
                        step.number * stepTokens, of: steps * stepTokens, note: "loss \(shortText(step.loss))")
                case .warning(let warning): if !json { printWarning(warning) }
                }
            }
        }
        let report = makeReport(distillationRun)
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }
}

/// Temperatures as an option's value: `4,2,1`.
struct Temperatures: ExpressibleByArgument, CustomStringConvertible {
    let values: [Double]

    init(values: [Double]) { self.values = values }

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        values = parts.compactMap { $0 }
        guard values.count == parts.count, values.allSatisfy({ $0 > 0 && $0.isFinite }) else { return nil }
    }

    var description: String { values.map { $0 == $0.rounded() ? "\(Int($0))" : "\($0)" }.joined(separator: ",") }
}

/// Training rules as an option's value: `mixers,-projections,*.w0=2,mlp=0.1/0.01`.
struct RuleList: ExpressibleByArgument {
    let rules: TrainingRules

    init?(argument: String) {
        var rules: [TrainingRules.Rule] = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            if part.hasPrefix("-") {
                guard part.count > 1, !part.contains("=") else { return nil }
                rules.append(.init(String(part.dropFirst()), nil))
                continue
            }
            let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let pattern = sides.first, !pattern.isEmpty else { return nil }
            var training = Training()
            if sides.count == 2 {
                let numbers = sides[1].split(separator: "/", omittingEmptySubsequences: false).map { Double($0) }
                let known = numbers.compactMap { $0 }
                guard known.count == numbers.count, 1...2 ~= known.count, known.allSatisfy({ $0 >= 0 && $0.isFinite })
                else { return nil }
                training.rateScale = known[0]
                if known.count == 2 { training.weightDecay = known[1] }
            }
            rules.append(.init(String(pattern), training))
        }
        self.rules = TrainingRules(rules)
    }
}

extension TrainedAdapters: ExpressibleByArgument {
    /// Parses a kind and a rank, as in `lora:16`; nil for anything else.
    public init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let kind = Adapter.Kind(rawValue: String(parts[0])), let rank = Int(parts[1]),
            1...1 << 16 ~= rank
        else { return nil }
        self.init(kind, rank: rank)
    }
}

extension LearningRate.Schedule: ExpressibleByArgument {}
extension AlignmentLoss: ExpressibleByArgument {}
extension LogitDivergence.TemperatureTarget: ExpressibleByArgument {}
