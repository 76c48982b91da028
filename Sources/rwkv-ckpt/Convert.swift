import ArgumentParser
import Bytes
import CRWKVKernels
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
import LayerPlanning
import ModelFamilies

struct Convert: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert",
        abstract: "Converts a transformer to a student, or a model to another format.",
        usage: "rwkv-ckpt convert <SRC> -o <DST> [options]",
        discussion: """
            EXAMPLES:
              # Make the student that a plan describes.
              rwkv-ckpt convert Qwen3-8B --plan plan.json -o student
              # Change the layout of tensors and the file format.
              rwkv-ckpt convert student -o student.pth --layout rwkv-infer
              # Merge an adapter.
              rwkv-ckpt convert Qwen3-8B --adapter lora -o merged
              # Show what would be done to each tensor.
              rwkv-ckpt convert model.safetensors -o model.pth --dry-run

            With --plan, SRC is a transformer and becomes the student that the plan describes: projections are copied, and new \
            tensors are initialised with the plan's formulas. With --plan and --teacher, SRC is a student, and the layers that \
            the plan keeps as attention are copied from the teacher. With --teacher alone, SRC is a training checkpoint of \
            RWKVInside, and the teacher supplies the weights that were not trained. With neither, the model stays the \
            same, apart from what --dtype and --adapter change.

            A DST that ends in .safetensors or .pth, optionally followed by .zst, is one file. Any other DST is a model \
            directory, with config.json and the tokenizer's files. The manifest (DST/conversion.json, or DST.conversion.json for \
            one file) records what became of every input tensor, and the SHA-256 of every output tensor. The output is written \
            completely or not at all.

            Exit status: 0 done; 64 usage error; 65 an input is malformed, or the tensors, plan and options do not \
            match; 66 no such input; 73 the output cannot be created; 74 reading or writing failed, or there is too \
            little disk space; 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("Checkpoint to convert.", valueName: "SRC"), completion: .file())
    var path: String

    @OptionGroup(title: "Required options") var required: RequiredOptions
    @OptionGroup(title: "Student") var student: StudentOptions
    @OptionGroup(title: "Format") var format: FormatOptions
    @OptionGroup(title: "Adapter") var adapter: AdapterOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Output") var result: OutputOptions

    var json: Bool { result.json }

    func validate() throws {
        let output = required.output
        guard !output.isEmpty else { throw ValidationError("-o must not be empty.") }
        if let ending = [".pt", ".bin", ".ckpt", ".zst", ".json", ".gguf"].first(where: { output.hasSuffix($0) }),
            case .directory = destination
        {
            throw ValidationError(
                "-o must not end in \(ending): give a file that ends in .safetensors or .pth, optionally with .zst, or a directory."
            )
        }
        if format.maxShardSize != nil, case .file = destination {
            throw ValidationError("--max-shard-size requires a directory as output: \(output) is one file.")
        }
        try check("--max-shard-size", format.maxShardSize?.count, in: 1...)
    }

    func report() throws {
        // Not in `validate()`, which argument-parser calls before it reports a misspelt --adapter as unknown.
        if adapter.adapterScale != nil, adapter.adapter == nil {
            throw ValidationError("--adapter-scale requires --adapter.")
        }
        let plan = student.plan
        let teacher = try student.teacher.map { try input($0) }
        var hints = model.hints
        hints.fallbackConfiguration = teacher?.configuration?.path
        let source = try input(path, hints)
        var layerPlan: LayerPlan?
        if let plan {
            let of = teacher ?? source
            guard let model = of.model else {
                throw CheckpointError(
                    .unsupported, path: of.checkpoint.path, "the model is not of a known family",
                    advice: of.configuration == nil ? "give its config.json with --config" : nil)
            }
            layerPlan = try LayerPlan(contentsOf: plan, teacher: model)
        }
        let changes = try adapter.adapter.map { try Checkpoint.open($0, temporaryDirectory: temporaryDirectory()) }
        let conversion = try Conversion(
            of: source, teacher: teacher, plan: layerPlan, adapter: changes, adapterScale: adapter.adapterScale,
            options: options)
        let report = ConversionReport(conversion, path: path)
        let version = RWKVCkpt.version
        let planHash = try plan.map { try sha256(ofDocument: $0) }
        if result.dryRun {
            if json {
                try conversion.writeManifest(hashes: nil, planHash: planHash, version: version, to: standardOutput())
            } else {
                try report.writeOperations(to: standardOutput())
            }
            return
        }
        let bar = ProgressBar()
        let progress = WorkProgress { bar.show($0, of: $1) }
        let hashes = try interruptible(progress) {
            defer { bar.clear() }
            return try conversion.write(
                replaces: result.force, threads: Int(rwkv_available_processors()), planHash: planHash, version: version,
                progress: progress)
        }
        if json {
            try conversion.writeManifest(hashes: hashes, planHash: planHash, version: version, to: standardOutput())
        } else {
            try report.writeSummary(to: standardOutput())
        }
    }

    private func input(_ path: String, _ hints: ModelHints = ModelHints()) throws -> ConversionInput {
        let found = try RecognisedModel(Checkpoint.open(path, temporaryDirectory: temporaryDirectory()), hints)
        let input = try ConversionInput(found)
        if !json { found.warnings.forEach(printWarning) }
        return input
    }

    private var destination: ConversionOptions.Destination {
        let output = required.output
        let isCompressed = output.hasSuffix(".zst")
        let name = isCompressed ? String(output.dropLast(4)) : output
        if name.hasSuffix(".safetensors") {
            return .file(path: output, container: .safetensors, isCompressed: isCompressed)
        }
        if name.hasSuffix(".pth") { return .file(path: output, container: .pyTorch, isCompressed: isCompressed) }
        return .directory(path: output, shardByteCount: format.maxShardSize?.count ?? 5_000_000_000)
    }

    private var options: ConversionOptions {
        var options = ConversionOptions(to: destination)
        options.layout = format.layout?.layout
        options.dtype = format.dtype.dtype
        for choice in format.dtypeFor {
            for role in choice.roles { options.roleDTypes[role] = .some(choice.type.dtype) }
        }
        options.saturates = format.saturate
        options.mayBeUnused = { [allowUnused = format.allowUnused] name in
            allowUnused.contains { matches(name, glob: $0) }
        }
        return options
    }
}

extension Convert {
    struct RequiredOptions: ParsableArguments {
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp(
                "Output: a file (.safetensors or .pth, optionally with .zst) or a model directory.", valueName: "DST"),
            completion: .file())
        var output: String
    }

    struct StudentOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp("Plan for the teacher, as written by rwkv-ckpt plan.", valueName: "FILE"),
            completion: .file())
        var plan: String?

        @Option(
            help: ArgumentHelp("Checkpoint of the transformer from which SRC was converted.", valueName: "PATH"),
            completion: .file())
        var teacher: String?
    }

    struct FormatOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "Layout of the output: \(TensorLayout.all.map(\.name).joined(separator: ", ")). Default: hf for students, else the layout of SRC.",
                valueName: "LAYOUT"))
        var layout: LayoutName?

        @Option(
            help: ArgumentHelp(
                "Dtype for tensors stored as F64, F32, F16 or BF16; keep leaves them as they are.",
                valueName: "DTYPE")
        )
        var dtype = FloatType.keep

        @Option(
            help: ArgumentHelp(
                "Dtype for one role, or for all roles that begin with ROLE and a dot, instead of --dtype; for example, decay=f32 or head=keep. May be repeated.",
                valueName: "ROLE=DTYPE"))
        var dtypeFor: [RoleType] = []

        @Option(
            help: ArgumentHelp(
                "Maximum size of the tensor data in each shard of a directory, at least 1 byte, such as 500MB or 4GiB. Default: 5GB.",
                valueName: "SIZE"
            ))
        var maxShardSize: ByteCount?

        @Flag(help: "Clamp values outside the output dtype's range to the nearest value in it, instead of failing.")
        var saturate = false

        @Option(
            help: ArgumentHelp(
                "Leave out tensors that have no place in the output and whose names match this shell pattern. May be repeated.",
                valueName: "GLOB"))
        var allowUnused: [String] = []
    }

    struct AdapterOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp("Adapter to merge: LoRA, DoRA or Bone, saved by peft or RWKVInside.", valueName: "PATH"),
            completion: .file())
        var adapter: String?

        @Option(
            help: ArgumentHelp("Scale of an adapter whose files do not record it: a finite number.", valueName: "S"))
        var adapterScale: Double?

        func validate() throws {
            if let adapterScale, !adapterScale.isFinite {
                throw ValidationError("--adapter-scale must be a finite number, not \(adapterScale).")
            }
        }
    }

    struct OutputOptions: ParsableArguments {
        @Flag(help: "Print what would be done to each tensor, and write nothing.")
        var dryRun = false

        @Flag(help: "Replace the output if it exists; a directory is replaced only if an earlier conversion wrote it.")
        var force = false

        @Flag(help: "Print the manifest as one JSON document (schemas/conversion.schema.json).")
        var json = false
    }
}

/// A floating-point dtype as an option's value, or `keep` for no change.
enum FloatType: String, ExpressibleByArgument, CaseIterable {
    case f32
    case f16
    case bf16
    case keep

    /// The dtype; nil for `keep`.
    var dtype: DType? {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .keep: nil
        }
    }
}

/// A dtype for the tensors of some roles as an option's value: `decay=f32`.
struct RoleType: ExpressibleByArgument {
    let roles: [TensorRole]
    let type: FloatType

    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, let type = FloatType(rawValue: String(parts[1])) else { return nil }
        roles = TensorRole.all.filter { $0.rawValue == parts[0] || $0.rawValue.hasPrefix(parts[0] + ".") }
        self.type = type
        if roles.isEmpty { return nil }
    }
}

/// A layout's name as an option's value: `hf`, `official`, ...
struct LayoutName: ExpressibleByArgument {
    let layout: TensorLayout

    init?(argument: String) {
        guard let layout = TensorLayout.all.first(where: { $0.name == argument }) else { return nil }
        self.layout = layout
    }
}
