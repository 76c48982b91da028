import ArgumentParser
import Bytes
import CheckpointFiles
import CheckpointReports
import ModelFamilies
import RWKVDistillation
import RWKVInference
import RWKVNumerics
import RWKVReports
import TokenFiles

struct Distill: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "distill",
        abstract: "Distils a teacher into a student, to show that the student learns.",
        usage: """
            rwkv-ckpt distill <TEACHER> <STUDENT> --stage <1|2> --tokens-file <FILE>
                --steps <N> -o <DIR> [options]
            """,
        discussion: """
            EXAMPLES:
              # Align each layer with the attention that it replaces.
              rwkv-ckpt distill Qwen3-0.6B student --stage 1 --tokens-file text.u32 \\
                  --steps 140 -o aligned
              # Then match the teacher's logits.
              rwkv-ckpt distill Qwen3-0.6B aligned --stage 2 --tokens-file text.u32 \\
                  --steps 120 -o distilled
              # Continue that run after an interruption.
              rwkv-ckpt distill Qwen3-0.6B aligned --stage 2 --tokens-file text.u32 \\
                  --steps 120 -o distilled --resume

            Stage 1 trains each time-mixing layer to reproduce the output of the teacher's attention for the same \
            input. Stage 2 \
            trains the student's logits to match the teacher's. The output is a model directory with log.jsonl (one line of JSON \
            per step and evaluation), curve.svg and report.html. Trained tensors are F32. A trained adapter is saved \
            in DIR/adapter; convert --adapter merges it into the model.

            A run that is interrupted by a signal is saved if it has completed a step. With --resume and the same \
            options, it continues and produces the same bytes as an uninterrupted run. If it uses the fast \
            kernels and the instruction set or matrix library has changed, it warns that the bytes will differ.

            --train takes rules separated by commas; the last rule that matches a weight applies. A rule is a set of weights \
            (mixers, rwkv, attention, projections, mlp or norms) or a shell pattern for tensor names. -RULE freezes \
            its weights, RULE=2 trains them at twice the learning rate, and RULE=1/0.1 trains them at the full \
            learning rate with a weight decay of 0.1.

            Exit status: 0 done; 64 usage error; 65 an input is malformed or does not match the others, or training \
            failed; 66 no such input; 73 the output cannot be created; 74 reading or writing failed, or there is too \
            little disk space; 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("Teacher checkpoint.", valueName: "TEACHER"), completion: .file())
    var teacher: String

    @Argument(help: ArgumentHelp("Student checkpoint.", valueName: "STUDENT"), completion: .file())
    var student: String

    @OptionGroup(title: "Required options") var required: RequiredOptions
    @OptionGroup(title: "Training") var training: TrainingOptions
    @OptionGroup(title: "Loss") var loss: LossOptions
    @OptionGroup(title: "Evaluation") var evaluation: EvaluationOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Machine") var run: RunOptions
    @OptionGroup(title: "Output") var result: OutputOptions

    var json: Bool { result.json }

    private func settings(_ tokens: TokenSequences) throws -> DistillationSettings {
        let isAlignment = required.stage == 1
        var rate = LearningRate(
            training.learningRate ?? (isAlignment ? 2e-3 : 3e-4), final: training.finalLearningRate)
        (rate.schedule, rate.warmUp) = (training.schedule, training.warmup)
        var alignment = Alignment()
        (alignment.loss, alignment.propagatesFirstValues) = (loss.loss, loss.firstValues == .joined)
        var divergence = LogitDivergence()
        divergence.propagatesFirstValues = loss.firstValues == .joined
        (divergence.divides, divergence.crossEntropyWeight) = (loss.temperatureTarget, loss.ceWeight)
        var settings = DistillationSettings(
            isAlignment ? .alignment(alignment) : .divergence(divergence, temperatures: loss.temperature.values),
            steps: required.steps, learningRate: rate)
        (settings.batch, settings.accumulate) = (training.batch, training.accumulate)
        (settings.clip, settings.seed) = (training.clip, training.seed)
        settings.context = training.context ?? min(512, tokens.sequences.map(\.count).max() ?? 1)
        try training.checkTokens(context: settings.context)
        if let train = training.train { settings.rules = train.rules }
        settings.adapters = training.trainAdapter
        settings.adapters?.seed = training.seed
        return settings
    }

    func report() throws {
        var warnings = run.warnings
        let teacher = try model.model(
            Checkpoint.open(self.teacher, temporaryDirectory: temporaryDirectory()), model.fallbackHints,
            warnings: &warnings)
        let checkpoint = try Checkpoint.open(
            result.resume ? required.output : student, temporaryDirectory: temporaryDirectory())
        let description = try model.model(checkpoint, warnings: &warnings).description
        if !json { warnings.forEach(printWarning) }
        let tokens = try TokenSequences(contentsOf: required.tokensFile)
        let evaluationTokens = try evaluation.evalTokens.map { try TokenSequences(contentsOf: $0) }
        func makeReport(_ run: DistillationRun) -> DistillationReport {
            DistillationReport(run, teacher: self.teacher, student: student, warnings: warnings)
        }
        var options = DistillationRun.Options()
        (options.evaluationTokens, options.checkpointInterval) = (
            evaluationTokens, evaluation.checkpointEvery
        )
        (options.configuration, options.resumes, options.replaces) = (
            model.config, result.resume, result.force
        )
        options.pages = { makeReport($0).pages }
        var distillationRun = try DistillationRun(
            Distillation(teacher, checkpoint, description, tokens, settings(tokens)), in: required.output, options)
        let stepTokens = distillationRun.distillation.settings.tokens
        let bar = ProgressBar { countText($0) + " tokens" }
        let progress = WorkProgress()
        try interruptible(progress) {
            defer { bar.clear() }
            try distillationRun.finish(run.loaded(), progress: progress) { event in
                switch event {
                case .step(let step):
                    bar.show(
                        step.number * stepTokens, of: required.steps * stepTokens, note: "loss \(shortText(step.loss))")
                case .warning(let warning): if !json { printWarning(warning) }
                }
            }
        }
        let report = makeReport(distillationRun)
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }
}
