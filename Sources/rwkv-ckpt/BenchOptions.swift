import ArgumentParser
import CheckpointFiles

extension BenchWKV {
    struct SizeOptions: ParsableArguments {
        @Option(help: ArgumentHelp("Number of heads: 1 to 1024.", valueName: "N"))
        var heads = 12

        @Option(help: ArgumentHelp("Channels per head: 1 to 1024.", valueName: "N"))
        var headSize = 64

        @Option(help: ArgumentHelp("Sequence length: 1 to 1048576 tokens.", valueName: "N"))
        var tokens = 1024

        @Option(help: ArgumentHelp("Timed runs of each measurement: 1 to 1000.", valueName: "N"))
        var runs = 15

        func validate() throws {
            try check("--heads", heads, in: 1...1024)
            try check("--head-size", headSize, in: 1...1024)
            try check("--tokens", tokens, in: 1...1 << 20)
            try check("--runs", runs, in: 1...1000)
            let sizes = [("--heads", heads), ("--head-size", headSize), ("--tokens", tokens)]
            try check(
                sizes, total: heads * headSize * max(tokens, headSize), "elements per matrix", atMost: 1 << 24)
            try check(
                sizes, total: heads * headSize * headSize * tokens, "elements in all states", atMost: 1 << 30)
        }
    }
}

extension BenchForward {
    struct SizeOptions: ParsableArguments {
        @Option(help: ArgumentHelp("Prompt length: 1 to 1048576 tokens.", valueName: "N"))
        var tokens = 512

        @Option(
            help: ArgumentHelp(
                "Timed runs of the prompt: 1 to 1000. Single tokens are timed ten times as often.", valueName: "N"))
        var runs = 5

        @Option(
            help: ArgumentHelp("Dtype of random weights. Default: f32.", valueName: "TYPE"))
        var dtype: WeightType?

        func validate() throws {
            try check("--tokens", tokens, in: 1...1 << 20)
            try check("--runs", runs, in: 1...1000)
        }
    }
}

extension BenchTrain {
    struct SizeOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp("Sequences per batch: 1 to 4096; a batch has at most 1048576 tokens.", valueName: "N"))
        var batch = 4

        @Option(help: ArgumentHelp("Tokens per sequence: 1 to 1048576.", valueName: "N"))
        var context = 256

        @Option(help: ArgumentHelp("Timed steps of each stage: 1 to 1000.", valueName: "N"))
        var runs = 5

        func validate() throws {
            try check("--batch", batch, in: 1...4096)
            try check("--context", context, in: 1...1 << 20)
            try check("--runs", runs, in: 1...1000)
            try check(
                [("--batch", batch), ("--context", context)], total: batch * context, "tokens per step", atMost: 1 << 20
            )
        }
    }
}

/// The dtype of random weights as an option's value.
enum WeightType: String, ExpressibleByArgument, CaseIterable {
    case f32
    case bf16
    case f16

    var dtype: DType {
        switch self {
        case .f32: .f32
        case .bf16: .bf16
        case .f16: .f16
        }
    }
}

struct BenchOutputOptions: ParsableArguments {
    @Flag(help: "Print the measurements as one JSON document (schemas/bench.schema.json).")
    var json = false
}
