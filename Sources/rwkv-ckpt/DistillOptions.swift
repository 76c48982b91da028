public import ArgumentParser
import ModelFamilies
public import RWKVDistillation

extension Distill {
    struct RequiredOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "Training objective: 1 matches the outputs of individual layers, 2 matches the logits.",
                valueName: "1|2"))
        var stage: Int

        @Option(
            help: ArgumentHelp(
                "Training sequences of token ids: .json, .safetensors (the tensor named tokens), .npy, .u16, .u32, or .bin next to its .idx.",
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

        func validate() throws {
            try check("--stage", stage, in: 1...2)
            try check("--steps", steps, in: 1...1 << 30)
        }
    }

    struct TrainingOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp("Sequences per batch: 1 to 4096; a batch has at most 1048576 tokens.", valueName: "N"))
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
                "Learning rate after the warm-up: above 0. Default: 2e-3 in stage 1, 3e-4 in stage 2.",
                valueName: "RATE"))
        var learningRate: Double?

        @Option(
            help: ArgumentHelp(
                "Learning rate at the end: above 0; the constant schedule ignores it. Default: 1/100 of --learning-rate.",
                valueName: "RATE"))
        var finalLearningRate: Double?

        @Option(
            help: ArgumentHelp("Learning rate schedule.", valueName: "NAME"))
        var schedule = LearningRate.Schedule.quarterCosine

        @Option(
            help: ArgumentHelp(
                "Warm-up steps, over which the learning rate rises from 1/100 of its full value to the full value: 0 to 1073741824.",
                valueName: "N"))
        var warmup = 10

        @Option(
            help: ArgumentHelp(
                "Maximum global norm of the gradients: above 0. Larger gradients are scaled down to it.",
                valueName: "NORM")
        )
        var clip = 1.0

        @Option(
            help: ArgumentHelp(
                "Weights to train, and how (see above); stage 1 trains only time mixing. Default: mixers.",
                valueName: "RULES"))
        var train: RuleList?

        @Option(
            help: ArgumentHelp(
                "Train adapters of rank R, 1 to 65536, instead of the mixers' projections. Default: none.",
                valueName: "lora:R|dora:R|bone:R"))
        var trainAdapter: TrainedAdapters?

        @Option(
            help: ArgumentHelp(
                "Seed for shuffling sequences and initialising adapters: 0 or greater.", valueName: "N"))
        var seed: UInt64 = 1

        func validate() throws {
            try check("--batch", batch, in: 1...4096)
            try check("--context", context, in: 1...1 << 20)
            try check("--accumulate", accumulate, in: 1...4096)
            try check("--warmup", warmup, in: 0...1 << 30)
            try checkTokens(context: context ?? 1)
            try check("--learning-rate", isPositive: learningRate)
            try check("--final-learning-rate", isPositive: finalLearningRate)
            try check("--clip", isPositive: clip)
        }

        /// Limits the tokens of one batch; `--accumulate` does not count, because its batches are computed one after
        /// another.
        func checkTokens(context: Int) throws {
            try check(
                [("--batch", batch), ("--context", context)], total: batch * context, "tokens per batch",
                atMost: 1 << 20)
        }
    }

    struct LossOptions: ParsableArguments {
        /// Whether gradients pass through the first layer's keys and values.
        enum FirstValuesOption: String, ExpressibleByArgument, CaseIterable {
            case detached
            case joined
        }

        @Option(
            help: ArgumentHelp(
                "Stage 1 loss between the outputs of time mixing and of the teacher's attention.", valueName: "NAME"))
        var loss = AlignmentLoss.relativeL2

        @Option(
            help: ArgumentHelp(
                "Whether gradients stop at (detached) or pass through (joined) the first layer's keys and values.",
                valueName: "NAME"))
        var firstValues = FirstValuesOption.detached

        @Option(
            help: ArgumentHelp(
                "Stage 2 softmax temperatures: above 0, separated by commas. Each applies for an equal share of the steps.",
                valueName: "T,.."))
        var temperature = Temperatures(values: [1])

        @Option(
            help: ArgumentHelp(
                "Logits divided by the temperature: the student's and the teacher's (both), or only the teacher's.",
                valueName: "NAME"))
        var temperatureTarget = LogitDivergence.TemperatureTarget.both

        @Option(
            help: ArgumentHelp(
                "Weight of the next-token cross entropy in the stage 2 loss: 0 or greater.", valueName: "W")
        )
        var ceWeight = 0.0

        func validate() throws {
            try check("--ce-weight", isPositive: ceWeight, orZero: true)
        }
    }

    struct EvaluationOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "Held-out sequences in the formats of --tokens-file; the student is evaluated on them before and after training. May be repeated.",
                valueName: "FILE"),
            completion: .file())
        var evalTokens: [String] = []

        @Option(
            help: ArgumentHelp("Also evaluate and save every N steps: 1 to 1073741824. Default: never.", valueName: "N")
        )
        var checkpointEvery: Int?

        func validate() throws {
            try check("--checkpoint-every", checkpointEvery, in: 1...1 << 30)
        }
    }

    struct OutputOptions: ParsableArguments {
        @Flag(help: "Resume the run in the output directory, with the same options; STUDENT is not read.")
        var resume = false

        @Flag(help: "Replace the output if it exists and an earlier run wrote it.")
        var force = false

        @Flag(help: "Print the report as one JSON document (schemas/distill.schema.json).")
        var json = false
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
