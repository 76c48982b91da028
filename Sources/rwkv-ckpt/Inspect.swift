public import ArgumentParser
import Bytes
import CRWKVKernels
import CheckpointFiles
import CheckpointJSON
public import CheckpointReports
import ModelFamilies

struct Inspect: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Shows what is in a checkpoint.",
        usage: "rwkv-ckpt inspect <PATH> [options]",
        discussion: """
            EXAMPLES:
              # Show the files, family, layers, sizes and tensors of a model.
              rwkv-ckpt inspect Qwen3-8B
              # List the key projections, largest first.
              rwkv-ckpt inspect Qwen3-8B --tensors --filter '*.k_proj.*' --sort size
              # Read the data too: find NaN and Inf, and hash every tensor.
              rwkv-ckpt inspect model.safetensors --stats --hash

            PATH is a safetensors file, a file written by torch.save, a shard index (*.index.json), or a directory that contains \
            one of them. A file's format is recognised from its contents, never from its name. Without --stats or --hash, \
            only headers are read, except that the checksums of small PyTorch files are verified. \
            Pickles are parsed without executing them; a pickle that would run arbitrary code in Python \
            is displayed, then rejected.

            Exit status: 0 done; 64 usage error; 65 the input is malformed, dangerous or in an unsupported format; 66 \
            no such input; 74 reading or writing failed.
            """)

    @Argument(help: ArgumentHelp("Checkpoint file, shard index or directory.", valueName: "PATH"), completion: .file())
    var path: String

    @OptionGroup(title: "Tensors") var list: TensorOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    var json: Bool { output.json }

    func report() throws {
        // A dangerous checkpoint is reported before it is refused, so that the user sees why.
        let checkpoint = try Checkpoint.open(
            path, temporaryDirectory: temporaryDirectory(), refusesDangerous: false)
        let positions = checkpoint.positions(
            sortedBy: list.sort, where: list.filter.map { glob in { matches($0, glob: glob) } })
        var scans: [TensorScan] = []
        if list.stats || list.hash {
            let bar = ProgressBar()
            defer { bar.clear() }
            scans = try checkpoint.scan(
                positions.map { $0.map { checkpoint.tensors[$0] } } ?? Array(checkpoint.tensors),
                statistics: list.stats,
                sha256: list.hash,
                threads: Int(rwkv_available_processors()), progress: WorkProgress { bar.show($0, of: $1) })
        }
        let found = try RecognisedModel(checkpoint, model.hints)
        let report = InspectReport(
            checkpoint, positions: positions, scans: scans, recognition: found.recognition,
            adapter: try Adapter(checkpoint), warnings: found.warnings)
        if json {
            try report.writeJSON(to: standardOutput())
        } else {
            found.warnings.forEach(printWarning)
            try report.writeText(to: standardOutput(), listsTensors: list.tensors)
        }
        if let danger = checkpoint.danger { throw danger }
    }
}

extension Inspect {
    struct TensorOptions: ParsableArguments {
        @Flag(help: "List every tensor instead of the folded tree.")
        var tensors = false

        @Option(
            help: ArgumentHelp(
                "Show only tensors whose names match this shell pattern ('*' also matches dots). Default: all.",
                valueName: "GLOB"))
        var filter: String?

        @Option(
            help: ArgumentHelp(
                "Order of the listed tensors: by name, by size (largest first) or by offset of the data.",
                valueName: "ORDER"))
        var sort: InspectReport.Order = .offset

        @Flag(
            help:
                "Read the data: min, max, mean and standard deviation of the finite values; counts of zeros, NaN and Inf."
        )
        var stats = false

        @Flag(help: "Read the data: SHA-256 of each tensor's bytes.")
        var hash = false
    }

    struct OutputOptions: ParsableArguments {
        @Flag(help: "Print the report as one JSON document (schemas/inspect.schema.json).")
        var json = false
    }
}

extension InspectReport.Order: ExpressibleByArgument {}
