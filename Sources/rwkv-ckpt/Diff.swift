import ArgumentParser
import Bytes
import CRWKVKernels
import CheckpointFiles
import CheckpointReports

struct Diff: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compares two checkpoints of any format.",
        usage: "rwkv-ckpt diff <A> <B> [options]",
        discussion: """
            EXAMPLES:
              # Compare names, shapes and dtypes; only headers are read.
              rwkv-ckpt diff model.pth model.safetensors
              # Compare the values too.
              rwkv-ckpt diff before after --values

            Lists the tensors that were added, removed, reshaped or recast (given another dtype) between A and B. With --values, \
            also compares the values of tensors with the same shape: largest absolute difference, norm of the difference \
            relative to A's norm, and cosine similarity.

            Exit status: 0 the same; 1 different; 64 usage error; 65 an input is malformed or its format is not supported; 66 no \
            such input; 74 reading or writing failed.
            """)

    @Argument(help: ArgumentHelp("The first checkpoint.", valueName: "A"), completion: .file())
    var a: String

    @Argument(help: ArgumentHelp("The second checkpoint.", valueName: "B"), completion: .file())
    var b: String

    @OptionGroup(title: "Comparison") var comparison: ComparisonOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    var json: Bool { output.json }

    func report() throws {
        let checkpoints = try [a, b].map { try Checkpoint.open($0, temporaryDirectory: temporaryDirectory()) }
        for warning in checkpoints.flatMap(\.warnings) where !json { printWarning(warning) }
        let difference = CheckpointDifference(from: checkpoints[0], to: checkpoints[1])
        var found: (comparedCount: Int, changed: [ValueDifference])?
        if comparison.values {
            let bar = ProgressBar()
            defer { bar.clear() }
            found = try difference.compareValues(
                threads: Int(rwkv_available_processors()), progress: WorkProgress { bar.show($0, of: $1) })
        }
        let report = DiffReport(difference, values: found)
        if json {
            try report.writeJSON(to: standardOutput())
        } else {
            try report.writeText(to: standardOutput())
        }
        if !report.isSame { throw ExitCode(1) }
    }
}

extension Diff {
    struct ComparisonOptions: ParsableArguments {
        @Flag(help: "Read the data and compare the values of tensors with the same shape.")
        var values = false
    }

    struct OutputOptions: ParsableArguments {
        @Flag(help: "Print the report as one JSON document (schemas/diff.schema.json).")
        var json = false
    }
}
