public import ArgumentParser
import CheckpointFiles
import CheckpointReports
import ModelFamilies
public import RWKVDistillation
import RWKVInference
import RWKVNumerics

struct Distill: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "distill",
        abstract: "Trains a student for some steps, to see whether it learns from its teacher.",
        usage: """
            rwkv-ckpt distill Qwen3-0.6B student --stage 1 --tokens-file text.u32 --steps 140 -o aligned
            rwkv-ckpt distill Qwen3-0.6B hybrid --stage 2 --tokens-file text.u32 --steps 120 -o distilled
            rwkv-ckpt distill Qwen3-0.6B hybrid --stage 2 --tokens-file text.u32 --steps 120 -o distilled --resume
            """,
        discussion: """
            Stage 1: each time mixing learns to give what its teacher's attention gives for the same input. Stage 2: the student's \
            logits learn to be its teacher's. The output is a model directory with log.jsonl, a line of JSON for each step, curve.svg \
            and report.html; what was trained is F32. An adapter is in its directory adapter, which convert merges.

            Stopped by a signal, a run saves what it has; with --resume and the same options it goes on, and ends with the same bytes. \
            With another instruction set or another library for matrix products it goes on as well, and warns that bytes will differ.

            --train is a list of rules, the last one that speaks of a weight holding: mixers, rwkv, attention, projections, mlp, norms, \
            or a pattern of tensors' names; -RULE freezes, RULE=2 trains at twice the rate, RULE=1/0.1 with a weight decay of 0.1.

            Exit status: 0 done, 64 wrong usage, 65 an input is malformed, does not go with the others, or training failed, 66 no such \
            input, 73 the output cannot be created, 74 reading or writing failed or the disk is too small, 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("The teacher.", valueName: "TEACHER"), completion: .file())
    var teacher: String

    @Argument(help: ArgumentHelp("The student.", valueName: "STUDENT"), completion: .file())
    var student: String

    @Option(help: ArgumentHelp("What is learnt: 1 for what layers give, 2 for logits.", valueName: "1|2"))
    var stage: Int

    @Option(
        help: ArgumentHelp(
            "Sequences of token ids: .json, .safetensors (tokens), .npy, .u16, .u32, or .bin beside .idx.",
            valueName: "FILE"),
        completion: .file())
    var tokensFile: String

    @Option(help: ArgumentHelp("How many steps there are: 1 to 1073741824.", valueName: "N"))
    var steps: Int

    @Option(
        name: .shortAndLong, help: ArgumentHelp("Where the student goes.", valueName: "DIR"), completion: .directory)
    var output: String

    @Option(help: ArgumentHelp("Sequences of a step: 1 to 4096.", valueName: "N"))
    var batch = 8

    @Option(
        help: ArgumentHelp(
            "Tokens of a sequence, 1 to 1048576; as many as there are, but at most 512, if not given.", valueName: "N")
    )
    var context: Int?

    @Option(help: ArgumentHelp("Batches of a step, computed one after the other: 1 to 4096.", valueName: "N"))
    var accumulate = 1

    @Option(
        help: ArgumentHelp(
            "The rate after the warm-up, above 0; 2e-3 in stage 1, 3e-4 in stage 2 if not given.", valueName: "RATE"))
    var learningRate: Double?

    @Option(
        help: ArgumentHelp("The rate at the end, above 0; a hundredth of the other if not given.", valueName: "RATE"))
    var finalLearningRate: Double?

    @Option(help: ArgumentHelp("How the rate falls.", valueName: "NAME"))
    var schedule = LearningRate.Schedule.quarterCosine

    @Option(help: ArgumentHelp("Steps over which the rate grows: 0 to 1073741824.", valueName: "N"))
    var warmup = 10

    @Option(help: ArgumentHelp("The largest norm of all gradients together, above 0.", valueName: "NORM"))
    var clip = 1.0

    @Option(help: ArgumentHelp("The seed of the order of sequences, 0 or greater.", valueName: "N"))
    var seed: UInt64 = 1

    @Option(help: ArgumentHelp("The loss of stage 1.", valueName: "NAME"))
    var loss = AlignmentLoss.relativeL2

    @Option(
        help: ArgumentHelp(
            "Whether gradients pass through the first layer's keys and values, which later ones mix in.",
            valueName: "NAME"))
    var firstValues = FirstValuesOption.detached

    @Option(
        help: ArgumentHelp(
            "What logits are divided by, above 0: one after the other in equal parts of the run.", valueName: "T,.."))
    var temperature = Temperatures(values: [1])

    @Option(help: ArgumentHelp("Whose logits are.", valueName: "NAME"))
    var temperatureTarget = LogitDivergence.Divided.both

    @Option(
        help: ArgumentHelp("The weight of next-token cross entropy in stage 2, 0 or greater.", valueName: "W")
    )
    var ceWeight = 0.0

    @Option(
        help: ArgumentHelp(
            "What is trained, and how; mixers if not given, in stage 1 those of time mixing.", valueName: "RULES"))
    var train: RuleList?

    @Option(
        help: ArgumentHelp(
            "What is trained in the place of the projections of mixers, to be merged by convert. R is 1 to 65536.",
            valueName: "lora:R|dora:R|bone:R"))
    var trainAdapter: TrainedAdapters?

    @Option(
        help: ArgumentHelp(
            "Tokens that are held out: looked at before and after; any number of files.", valueName: "FILE"),
        completion: .file())
    var evalTokens: [String] = []

    @Option(
        help: ArgumentHelp("Evaluate and save every N steps: 1 to 1073741824.", valueName: "N"))
    var checkpointEvery: Int?

    @Flag(help: "Go on with what -o holds of a run with the same options; STUDENT is not read again.")
    var resume = false

    @OptionGroup var model: ModelOptions
    @OptionGroup var run: RunOptions

    @Flag(help: "Replace the output if it exists.")
    var force = false

    @Flag(help: "Print the report as one JSON document (schemas/distill.schema.json).")
    var json = false

    /// What becomes of gradients at first values.
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

    /// A batch is computed at once; `--accumulate` takes several.
    private static func checkTokens(batch: Int, context: Int) throws {
        try check(
            [("--batch", batch), ("--context", context)], total: batch * context, "tokens of a batch",
            atMost: 1 << 20)
    }

    private func settings(_ tokens: TokenSequences) throws -> DistillationSettings {
        var rate = LearningRate(learningRate ?? (stage == 1 ? 2e-3 : 3e-4), final: finalLearningRate)
        (rate.schedule, rate.warmUp) = (schedule, warmup)
        var alignment = Alignment()
        (alignment.loss, alignment.passesFirstValues) = (loss, firstValues == .joined)
        var divergence = LogitDivergence()
        divergence.passesFirstValues = firstValues == .joined
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

/// `4,2,1`.
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

/// `mixers,-projections,*.w0=2,mlp=0.1/0.01`.
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
    /// A kind and a rank, as in `lora:16`.
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
extension LogitDivergence.Divided: ExpressibleByArgument {}
