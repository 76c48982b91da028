public import ArgumentParser
import CRWKVKernels
import CheckpointFiles
import CheckpointJSON
public import CheckpointReports
import ModelFamilies

struct Inspect: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Shows what is in a checkpoint.",
        usage: """
            rwkv-ckpt inspect model.safetensors
            rwkv-ckpt inspect Qwen3-8B
            rwkv-ckpt inspect Qwen3-8B --tensors --filter '*.k_proj.*' --sort size
            rwkv-ckpt inspect Qwen3-8B --stats --hash
            rwkv-ckpt inspect Qwen3-8B --json
            """,
        discussion: """
            PATH is a safetensors file, a file of torch.save, a shard index (*.index.json) or a directory that holds one of \
            them. What a file is comes from its bytes, never from its name. Reads headers alone, unless --stats or --hash ask \
            for the data. Pickles are read without running anything in them; one that would run foreign code in Python is \
            listed, and refused then.

            Exit status: 0 done, 64 wrong usage, 65 the input is malformed or of another format, 66 no such input, 74 reading \
            or writing failed.
            """)

    @Argument(help: ArgumentHelp("The checkpoint.", valueName: "PATH"), completion: .file())
    var path: String

    @Flag(help: "List every tensor instead of the folded tree.")
    var tensors = false

    @Option(
        help: ArgumentHelp(
            "Show the tensors whose names match the shell pattern alone ('*' goes across dots).", valueName: "GLOB"))
    var filter: String?

    @Option(
        help: ArgumentHelp(
            "The order of listed tensors: name, size or offset (as the data stands).", valueName: "ORDER"))
    var sort: InspectReport.Order = .offset

    @Flag(help: "Read the data: min, max, mean and standard deviation of the finite values, zeros, NaN, Inf.")
    var stats = false

    @Flag(help: "Read the data: SHA-256 of each tensor's bytes.")
    var hash = false

    @OptionGroup var model: ModelOptions

    @Flag(help: "Print one JSON document (schemas/inspect.schema.json).")
    var json = false

    func report() throws {
        // Researchers look before they trust: what is dangerous is shown first, and refused then.
        let checkpoint = try Checkpoint.open(
            path, temporaryDirectory: temporaryDirectory(), refusesDangerous: false)
        let positions = checkpoint.positions(
            sortedBy: sort, where: filter.map { glob in { matches($0, glob: glob) } })
        var scans: [TensorScan] = []
        if stats || hash {
            let bar = ProgressBar()
            defer { bar.clear() }
            scans = try checkpoint.scan(
                positions.map { $0.map { checkpoint.tensors[$0] } } ?? Array(checkpoint.tensors), statistics: stats,
                sha256: hash,
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
            try report.writeText(to: standardOutput(), listsTensors: tensors)
        }
        if let danger = checkpoint.danger { throw danger }
    }
}

extension InspectReport.Order: ExpressibleByArgument {}
