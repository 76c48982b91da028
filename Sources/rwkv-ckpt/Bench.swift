import ArgumentParser
import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointReports
import Glibc
import LayerPlanning
import ModelFamilies
import RWKVBenchmarks
import RWKVDistillation
import RWKVEvaluation
import RWKVInference
import RWKVReports

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measures how fast this tool is on this machine.",
        usage: "rwkv-ckpt bench <subcommand> [options]",
        discussion: """
            EXAMPLES:
              # Time an RWKV-7 with random weights, to compare machines.
              rwkv-ckpt bench forward
              # Time a model, and the training of a student.
              rwkv-ckpt bench forward student
              rwkv-ckpt bench train Qwen3-0.6B

            In the same run, each benchmark also times a plain scalar loop and measures the machine's peak floating-point rate and \
            memory bandwidth. Results are reported relative to these.
            """,
        subcommands: [BenchWKV.self, BenchForward.self, BenchTrain.self])
}

/// The part of the help that all benchmarks share.
private let benchDiscussion = """
    Times are medians: CPU time with one thread, which other work on the machine affects least, and wall-clock time with several.

    Exit status: 0 done; 64 usage error; 65 an input is malformed; 66 no such input; 73 a file cannot be created; 74 reading or \
    writing failed or there is too little disk space; 130 interrupted.
    """

struct BenchWKV: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "wkv",
        abstract: "Times the recurrences of RWKV-7, RWKV-6 and RWKV-5.",
        usage: "rwkv-ckpt bench wkv [options]",
        discussion: """
            EXAMPLES:
              rwkv-ckpt bench wkv
              rwkv-ckpt bench wkv --heads 6 --head-size 128 --threads 1
              rwkv-ckpt bench wkv --isa avx2 --kernels strict

            The RWKV-7 recurrence is timed in three ways: over a whole sequence (in F32, BF16 and F16), token by token, and with \
            gradients. The RWKV-6 and RWKV-5 recurrences are timed only over a whole sequence.

            \(benchDiscussion)
            """)

    @OptionGroup(title: "Measurement") var size: SizeOptions
    @OptionGroup(title: "Machine") var run: RunOptions
    @OptionGroup(title: "Output") var output: BenchOutputOptions

    var json: Bool { output.json }

    func report() throws {
        let load = systemLoad()
        let warnings = run.warnings
        if !json { warnings.forEach(printWarning) }
        let bar = ProgressBar { countText($0) + " runs" }
        let progress = WorkProgress { bar.show($0, of: $1) }
        let measurements = try interruptible(progress) {
            defer { bar.clear() }
            return try SpeedMeasurements.ofRecurrences(
                heads: size.heads, size: size.headSize, tokens: size.tokens, runs: size.runs, try run.loaded(),
                progress: progress)
        }
        let report = SpeedReport(
            measurements, .wkv(heads: size.heads, headSize: size.headSize), processor: processorName(), load: load,
            peakMemory: peakMemory(), warnings: warnings)
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }
}

struct BenchForward: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "forward",
        abstract: "Times a model's forward pass: over a prompt, and token by token.",
        usage: "rwkv-ckpt bench forward [<MODEL>] [options]",
        discussion: """
            EXAMPLES:
              rwkv-ckpt bench forward
              rwkv-ckpt bench forward student --tokens 512 --threads 1
              # Random weights with a model's sizes.
              rwkv-ckpt bench forward Qwen3-0.6B/config.json --dtype bf16

            Without MODEL, or with only a config.json, the weights are random, and are kept in TMPDIR during the run. With no \
            argument, the model is an RWKV-7 with 191 million parameters.

            \(benchDiscussion)
            """)

    @Argument(
        help: ArgumentHelp("Model checkpoint, or a config.json for random weights.", valueName: "MODEL"),
        completion: .file())
    var path: String?

    @OptionGroup(title: "Measurement") var size: SizeOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Machine") var run: RunOptions
    @OptionGroup(title: "Output") var output: BenchOutputOptions

    var json: Bool { output.json }

    func report() throws {
        let isModel = try path.map { try ModelConfiguration(alone: $0) == nil } ?? false
        if isModel, let dtype = size.dtype {
            throw ValidationError("--dtype \(dtype) applies to random weights only: MODEL has weights of its own.")
        }
        let report = try withModel(path, model, or: Self.rwkv7, size.dtype?.dtype ?? .f32) {
            file, options, path, _, stop in
            try measured(file, options, path: path, stop)
        }
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }

    // Measures the model in `file`. `path` is the file as the user named it; nil for random weights.
    private func measured(
        _ file: String, _ options: ModelOptions, path: String?, _ stop: WorkProgress
    ) throws -> SpeedReport {
        let kernels = try run.loaded()
        let load = systemLoad()
        var warnings = run.warnings
        let start = ContinuousClock.now
        let checkpoint = try Checkpoint.open(file, temporaryDirectory: temporaryDirectory())
        let loaded = try options.model(checkpoint, warnings: &warnings)
        let loadSeconds = (ContinuousClock.now - start) / .seconds(1)
        if !json { warnings.forEach(printWarning) }
        let bar = ProgressBar { countText($0) + " tokens" }
        defer { bar.clear() }
        let measurements = try SpeedMeasurements.ofForward(
            loaded, tokens: size.tokens, runs: size.runs, kernels,
            progress: WorkProgress(partOf: stop) { bar.show($0, of: $1) })
        return SpeedReport(
            measurements, .forward(loaded.description, path: path, loadSeconds: loadSeconds),
            processor: processorName(), load: load, peakMemory: peakMemory(), warnings: warnings)
    }

    /// The config.json of an RWKV-7 with the sizes of the smallest published one, as flash-linear-attention writes it.
    private static let rwkv7 = """
        {"model_type": "rwkv7", "hidden_size": 768, "head_dim": 64, "intermediate_size": 3072, "num_hidden_layers": 12, \
        "vocab_size": 65536, "decay_low_rank_dim": 64, "a_low_rank_dim": 64, "v_low_rank_dim": 32, "gate_low_rank_dim": 128, \
        "norm_eps": 1e-5}
        """
}

struct BenchTrain: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Times distillation steps of stage 1 and of stage 2.",
        usage: "rwkv-ckpt bench train [<TEACHER>] [options]",
        discussion: """
            EXAMPLES:
              rwkv-ckpt bench train
              rwkv-ckpt bench train Qwen3-0.6B --batch 4 --context 256 --threads 1
              # Random weights with a model's sizes.
              rwkv-ckpt bench train Qwen3-0.6B/config.json

            Stage 1 trains layer by layer; stage 2 trains on the logits. \
            The student is a cxa079, kept in TMPDIR during the run. Without \
            TEACHER, or with only a config.json, the teacher's weights are random. With no argument, the teacher is a Qwen3 with 29 million \
            parameters.

            \(benchDiscussion)
            """)

    @Argument(
        help: ArgumentHelp("Teacher checkpoint, or a config.json for random weights.", valueName: "TEACHER"),
        completion: .file())
    var path: String?

    @OptionGroup(title: "Measurement") var size: SizeOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Machine") var run: RunOptions
    @OptionGroup(title: "Output") var output: BenchOutputOptions

    var json: Bool { output.json }

    func report() throws {
        let report = try withModel(path, model, or: Self.qwen3, .f32) { file, options, path, directory, stop in
            try measured(file, options, path: path, in: directory, stop)
        }
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }

    // Measures training a student of the teacher in `file`. `path` is the file as the user named it; nil for random
    // weights.
    private func measured(
        _ file: String, _ options: ModelOptions, path: String?, in directory: String, _ stop: WorkProgress
    ) throws -> SpeedReport {
        let kernels = try run.loaded()
        let load = systemLoad()
        let checkpoint = try Checkpoint.open(file, temporaryDirectory: temporaryDirectory())
        let recognised = try RecognisedModel(checkpoint, options.hints)
        let teacher = try Model<Float>(recognised)
        let warnings = run.warnings + recognised.warnings + teacher.warnings
        if !json { warnings.forEach(printWarning) }
        guard let target = ArchitectureRegistry.target(named: "hxa079"),
            let plan = LayerPlan(of: teacher.description, target: target, LayerSelection([], reason: ""), seed: 1)
        else {
            throw CheckpointError(.unsupported, path: checkpoint.path, "no student can be planned for this teacher")
        }
        let place = directory + "/student"
        let output = ConversionOptions(to: .directory(path: place, shardByteCount: .max))
        _ = try Conversion(of: ConversionInput(recognised), plan: plan, options: output)
            .write(replaces: false, threads: run.threads, planHash: nil, version: RWKVCkpt.version)
        let student = try Checkpoint.open(place)
        let bar = ProgressBar { countText($0) + " steps" }
        defer { bar.clear() }
        let measurements = try SpeedMeasurements.ofTraining(
            teacher, student, RecognisedModel(student).description, size: (size.batch, size.context),
            memory: physicalMemory(),
            runs: size.runs, kernels, progress: WorkProgress(partOf: stop) { bar.show($0, of: $1) })
        return SpeedReport(
            measurements, .train(teacher.description, path: path), processor: processorName(), load: load,
            peakMemory: peakMemory(), warnings: warnings)
    }

    private static let qwen3 = """
        {"model_type": "qwen3", "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, \
        "intermediate_size": 1536, "num_hidden_layers": 8, "vocab_size": 8192, "tie_word_embeddings": true, "rms_norm_eps": 1e-6, \
        "rope_theta": 1000000}
        """
}

/// Measures the checkpoint at `path`, or a model with random weights if `path` is a config.json or nil.
///
/// If `path` is nil, the config.json is that of `--config`, or else `configuration`.
///
/// `measure` receives the path of the weights, their options, the path as the user named it (nil for random weights),
/// and a temporary directory, which is deleted before this function returns.
private func withModel(
    _ path: String?, _ model: ModelOptions, or configuration: String, _ dtype: DType,
    _ measure: (String, ModelOptions, String?, _ directory: String, WorkProgress) throws -> SpeedReport
) throws -> SpeedReport {
    let isModel = try path.map { try ModelConfiguration(alone: $0) == nil } ?? false
    guard isModel || path == nil || model.config == nil else {
        throw ValidationError("Give the config.json as the argument or with --config, not both.")
    }
    let stop = WorkProgress()
    return try interruptible(stop) {
        try withTemporaryDirectory { directory in
            if isModel, let path { return try measure(path, model, path, directory, stop) }
            var options = model
            options.config = try path ?? model.config ?? written(configuration, in: directory)
            let weights = directory + "/model.safetensors"
            try writeWeights(options, dtype, to: weights, stop)
            return try measure(weights, options, nil, directory, stop)
        }
    }
}

/// Writes `configuration` to config.json in a directory, and returns its path.
private func written(_ configuration: String, in directory: String) throws -> String {
    let file = try UnfinishedFile(path: directory + "/config.json", replaces: false)
    try file.write(Array(configuration.utf8))
    try file.commit()
    return directory + "/config.json"
}

/// Writes random weights for the model that the config.json of `options` describes.
private func writeWeights(_ options: ModelOptions, _ dtype: DType, to path: String, _ stop: WorkProgress) throws {
    guard let configuration = options.config else { return }
    let description = try RecognisedModel(
        ModelConfiguration(path: configuration), variant: options.variant
    ).description
    if let blocker = description.runBlocker {
        throw CheckpointError(.malformed, path: configuration, "the model cannot be run: \(blocker)")
    }
    let bar = ProgressBar()
    defer { bar.clear() }
    try SyntheticModel.write(
        description, dtype, to: path, progress: WorkProgress(partOf: stop) { bar.show($0, of: $1) })
}
