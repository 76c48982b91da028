import ArgumentParser
import CheckpointFiles
import CheckpointReports
import Glibc
import ModelFamilies
import RWKVEvaluation
import RWKVInference

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures how fast this tool is on this machine.",
        usage: """
            rwkv-ckpt bench wkv
            rwkv-ckpt bench wkv --heads 6 --head-size 128 --threads 1
            rwkv-ckpt bench forward
            rwkv-ckpt bench forward student --tokens 512
            """,
        discussion: """
            Beside what it measures in the same run: the most multiplications and additions and the most bytes from memory that the \
            machine can do, and a plain loop, one number at a time.
            """,
        subcommands: [BenchWKV.self, BenchForward.self])
}

/// What both have in common.
private let benchDiscussion = """
    Times are medians, of one thread in its processor's seconds, in which other work on the machine shows least, of several by the \
    clock.

    Exit status: 0 done, 64 wrong usage, 65 an input is malformed, 66 no such input, 73 a file cannot be created, 74 reading or writing \
    failed or the disk is too small, 130 interrupted.
    """

struct BenchWKV: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "wkv",
        abstract: "The recurrence of RWKV-7, over a sequence of F32, BF16 and F16, and token by token.",
        usage: """
            rwkv-ckpt bench wkv
            rwkv-ckpt bench wkv --heads 6 --head-size 128 --threads 1
            rwkv-ckpt bench wkv --isa avx2 --kernels strict --json
            """,
        discussion: benchDiscussion)

    @Option(help: ArgumentHelp("How many heads.", valueName: "N"))
    var heads = 12

    @Option(help: ArgumentHelp("Channels of a head.", valueName: "N"))
    var headSize = 64

    @Option(help: ArgumentHelp("How long the sequence is.", valueName: "N"))
    var tokens = 1024

    @Option(help: ArgumentHelp("How often each is timed.", valueName: "N"))
    var runs = 15

    @OptionGroup var run: RunOptions

    @Flag(help: "Print what was measured as one JSON document (schemas/bench.schema.json).")
    var json = false

    func validate() throws {
        guard 1...1024 ~= heads, 1...1024 ~= headSize, 1...1 << 20 ~= tokens, 1...1000 ~= runs,
            heads * headSize * max(tokens, headSize) <= 1 << 24
        else {
            throw ValidationError(
                "Heads and their size are 1 to 1024, runs 1 to 1000, heads x size x tokens or size at most 16,777,216.")
        }
    }

    func report() throws {
        let load = systemLoad()
        let bar = ProgressBar { countText($0) + " runs" }
        let progress = WorkProgress { bar.show($0, of: $1) }
        let measurements = try interruptible(progress) {
            defer { bar.clear() }
            return try SpeedMeasurements.ofWKV7(
                heads: heads, size: headSize, tokens: tokens, runs: runs, try run.loaded(), progress: progress)
        }
        let report = SpeedReport(
            measurements, .wkv(heads: heads, headSize: headSize), processor: processorName(), load: load,
            peakMemory: peakMemory(), warnings: [])
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }
}

struct BenchForward: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "forward",
        abstract: "A model over a prompt, and token by token.",
        usage: """
            rwkv-ckpt bench forward
            rwkv-ckpt bench forward student --tokens 512 --threads 1
            rwkv-ckpt bench forward Qwen3-0.6B/config.json --dtype bf16
            """,
        discussion: """
            Without a model, or with a config.json alone, random weights are written into TMPDIR, and taken away again: those of an \
            RWKV-7 of 191 million parameters where nothing is said.

            \(benchDiscussion)
            """)

    @Argument(help: ArgumentHelp("The model, or a config.json.", valueName: "MODEL"), completion: .file())
    var path: String?

    @Option(help: ArgumentHelp("How long the prompt is.", valueName: "N"))
    var tokens = 512

    @Option(help: ArgumentHelp("How often the prompt is timed; single tokens ten times as often.", valueName: "N"))
    var runs = 5

    @Option(help: ArgumentHelp("The type of random weights: f32, bf16 or f16; f32 if not given.", valueName: "TYPE"))
    var dtype: FloatType?

    @OptionGroup var model: ModelOptions
    @OptionGroup var run: RunOptions

    @Flag(help: "Print what was measured as one JSON document (schemas/bench.schema.json).")
    var json = false

    func validate() throws {
        guard 1...1 << 20 ~= tokens, 1...1000 ~= runs else {
            throw ValidationError("Tokens are 1 to 1,048,576, and runs 1 to 1000.")
        }
        guard dtype != .keep else { throw ValidationError("--dtype is f32, bf16 or f16.") }
    }

    func report() throws {
        let isModel = path.map { ModelConfiguration(alone: $0) == nil } ?? false
        guard !isModel || dtype == nil else { throw ValidationError("--dtype is the type of random weights.") }
        guard isModel || path == nil || model.config == nil else { throw ValidationError("Give one config.json.") }
        let stop = WorkProgress()
        // Of random weights nothing is left before anything is printed.
        let report = try interruptible(stop) {
            if isModel, let path { return try measured(path, model, path: path, stop) }
            return try withTemporaryDirectory { directory in
                var options = model
                options.config = try path ?? model.config ?? writtenConfiguration(in: directory)
                let weights = directory + "/model.safetensors"
                try writeWeights(options, to: weights, stop)
                return try measured(weights, options, path: nil, stop)
            }
        }
        try json ? report.writeJSON(to: standardOutput()) : report.writeText(to: standardOutput())
    }

    private func writtenConfiguration(in directory: String) throws -> String {
        let file = try UnfinishedFile(path: directory + "/config.json", replaces: false)
        try file.write(Array(Self.rwkv7.utf8))
        try file.commit()
        return directory + "/config.json"
    }

    private func writeWeights(_ options: ModelOptions, to path: String, _ stop: WorkProgress) throws {
        guard let configuration = options.config else { return }
        let description = try ModelRecognition.recognize(
            nil, configuration: ModelConfiguration(path: configuration), variant: options.variant
        ).described(path: configuration, hasConfiguration: true)
        if let obstacle = description.runningObstacle {
            throw CheckpointError(.malformed, path: configuration, "the model cannot be run: \(obstacle)")
        }
        let bar = ProgressBar()
        defer { bar.clear() }
        try SyntheticModel.write(
            description, dtype?.dtype ?? .f32, to: path,
            progress: WorkProgress(partOf: stop) { bar.show($0, of: $1) })
    }

    // The model in a file, which is called `path`, or nothing where its weights are random.
    private func measured(
        _ file: String, _ options: ModelOptions, path: String?, _ stop: WorkProgress
    ) throws -> SpeedReport {
        let kernels = try run.loaded()
        let load = systemLoad()
        var warnings: [CheckpointWarning] = []
        let start = ContinuousClock.now
        let checkpoint = try Checkpoint.open(file, temporaryDirectory: temporaryDirectory())
        let loaded = try options.model(checkpoint, warnings: &warnings)
        let loadSeconds = (ContinuousClock.now - start) / .seconds(1)
        if !json { warnings.forEach(printWarning) }
        let bar = ProgressBar { countText($0) + " tokens" }
        defer { bar.clear() }
        let measurements = try SpeedMeasurements.ofForward(
            loaded, tokens: tokens, runs: runs, kernels,
            progress: WorkProgress(partOf: stop) { bar.show($0, of: $1) })
        return SpeedReport(
            measurements, .forward(loaded.description, path: path, loadSeconds: loadSeconds),
            processor: processorName(), load: load, peakMemory: peakMemory(), warnings: warnings)
    }

    /// As large as the smallest that was published, as flash-linear-attention describes it.
    private static let rwkv7 = """
        {"model_type": "rwkv7", "hidden_size": 768, "head_dim": 64, "intermediate_size": 3072, "num_hidden_layers": 12, \
        "vocab_size": 65536, "decay_low_rank_dim": 64, "a_low_rank_dim": 64, "v_low_rank_dim": 32, "gate_low_rank_dim": 128, \
        "norm_eps": 1e-5}
        """
}
