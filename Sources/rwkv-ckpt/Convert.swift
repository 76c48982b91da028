import ArgumentParser
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
        abstract: "Makes students of transformers, and the same model in other files, names and types.",
        usage: """
            rwkv-ckpt convert Qwen3-8B --plan plan.json -o student
            rwkv-ckpt convert student --teacher Qwen3-8B --plan hybrid.json -o hybrid
            rwkv-ckpt convert trainable_only_weights.pth --teacher Qwen3-8B -o student
            rwkv-ckpt convert student -o student.pth --layout rwkv-infer
            rwkv-ckpt convert rwkv7.pth -o rwkv7 --layout fla --dtype f32
            rwkv-ckpt convert Qwen3-8B --adapter lora -o merged
            rwkv-ckpt convert model.safetensors -o model.pth --dry-run
            """,
        discussion: """
            With --plan a transformer becomes the student that the plan describes: projections are copied, what is new begins with \
            the plan's formulas. With --teacher as well, SRC is a student, and layers that the plan keeps as attention take their \
            teacher's. With --teacher alone, SRC is what a trainer saved of a student, and the teacher gives the rest. Without \
            either it stays the same model, but for --dtype and --adapter.

            A path that ends in .safetensors or .pth, or one of them and .zst, is written as one file, any other as a model \
            directory, with its config.json and the tokenizer's files. Beside it stands the manifest (conversion.json): what became \
            of every tensor, and the SHA-256 of each that was made. The result appears whole or not at all.

            Exit status: 0 done, 64 wrong usage, 65 an input is malformed, or tensors, plan and options do not go together, 66 no \
            such input, 73 the output cannot be created, 74 reading or writing failed or the disk is too small, 130 interrupted.
            """)

    @Argument(help: ArgumentHelp("What to convert.", valueName: "SRC"), completion: .file())
    var path: String

    @Option(
        name: .shortAndLong, help: ArgumentHelp("Where the result goes.", valueName: "DST"), completion: .file())
    var output: String

    @Option(help: ArgumentHelp("A plan that was made for the teacher.", valueName: "FILE"), completion: .file())
    var plan: String?

    @Option(help: ArgumentHelp("The transformer that SRC was made of.", valueName: "PATH"), completion: .file())
    var teacher: String?

    @Option(
        help: ArgumentHelp(
            "How tensors are named: \(TensorLayout.all.map(\.name).joined(separator: ", ")). As in SRC if not given; hf for students.",
            valueName: "LAYOUT"))
    var layout: LayoutName?

    @Option(
        help: ArgumentHelp("The type of tensors of F64, F32, F16 and BF16: f32, f16, bf16 or keep.", valueName: "DTYPE")
    )
    var dtype = FloatType.keep

    @Option(
        help: ArgumentHelp(
            "Another type for tensors of a role, or of all roles that begin so: decay=f32, head=keep.",
            valueName: "ROLE=DTYPE"))
    var dtypeFor: [RoleType] = []

    @Option(
        help: ArgumentHelp("An adapter to merge: LoRA, DoRA or Bone of peft or RWKVInside.", valueName: "PATH"),
        completion: .file())
    var adapter: String?

    @Option(help: ArgumentHelp("The scale of an adapter whose files do not say it: a finite number.", valueName: "S"))
    var adapterScale: Double?

    @Option(
        help: ArgumentHelp(
            "The most bytes of tensors in a file of a directory, 1 or more: 500MB. 5GB if not given.", valueName: "SIZE"
        ))
    var maxShardSize: ByteCount?

    @Flag(help: "Take a type's largest value for what is beyond it, instead of refusing.")
    var saturate = false

    @Option(
        help: ArgumentHelp("Tensors that may be left out though nothing is known of them.", valueName: "GLOB"))
    var allowUnused: [String] = []

    @Flag(help: "Say what would be done, and do nothing.")
    var dryRun = false

    @Flag(help: "Replace the output if it exists: a file, or a directory that an earlier conversion made.")
    var force = false

    @OptionGroup var model: ModelOptions

    @Flag(help: "Print the manifest as one JSON document (schemas/conversion.schema.json).")
    var json = false

    func validate() throws {
        guard !output.isEmpty else { throw ValidationError("-o is empty.") }
        if let ending = [".pt", ".bin", ".ckpt", ".zst", ".json", ".gguf"].first(where: { output.hasSuffix($0) }),
            case .directory = destination
        {
            throw ValidationError(
                "No file is written that ends in \(ending): take .safetensors or .pth, with .zst or without, or a directory."
            )
        }
        if adapterScale != nil, adapter == nil { throw ValidationError("--adapter-scale goes with --adapter.") }
        if let adapterScale, !adapterScale.isFinite {
            throw ValidationError("--adapter-scale must be a finite number, not \(adapterScale).")
        }
        if maxShardSize != nil, case .file = destination {
            throw ValidationError("--max-shard-size goes with a directory: \(output) is one file.")
        }
        try check("--max-shard-size", maxShardSize?.count, in: 1...)
    }

    func report() throws {
        let plan = plan
        let teacher = try teacher.map { try input($0) }
        var hints = model.hints
        hints.fallbackConfiguration = teacher?.configuration?.path
        let source = try input(path, hints)
        var layerPlan: LayerPlan?
        if let plan {
            let of = teacher ?? source
            guard let model = of.model else {
                throw CheckpointError(
                    .unsupported, path: of.checkpoint.path, "it is no model of a known family",
                    advice: of.configuration == nil ? "give its config.json by --config" : nil)
            }
            layerPlan = try LayerPlan(contentsOf: plan, teacher: model)
        }
        let changes = try adapter.map { try Checkpoint.open($0, temporaryDirectory: temporaryDirectory()) }
        let conversion = try Conversion(
            of: source, teacher: teacher, plan: layerPlan, adapter: changes, adapterScale: adapterScale,
            options: options)
        let report = ConversionReport(conversion, path: path)
        let version = RWKVCkpt.version
        let planHash = try plan.map { try sha256(ofDocument: $0) }
        if dryRun {
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
                replaces: force, threads: Int(rwkv_available_processors()), planHash: planHash, version: version,
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
        let isCompressed = output.hasSuffix(".zst")
        let name = isCompressed ? String(output.dropLast(4)) : output
        if name.hasSuffix(".safetensors") {
            return .file(path: output, container: .safetensors, isCompressed: isCompressed)
        }
        if name.hasSuffix(".pth") { return .file(path: output, container: .pyTorch, isCompressed: isCompressed) }
        return .directory(path: output, shardByteCount: maxShardSize?.count ?? 5_000_000_000)
    }

    private var options: ConversionOptions {
        var options = ConversionOptions(to: destination)
        options.layout = layout?.layout
        options.dtype = dtype.dtype
        for choice in dtypeFor {
            for role in choice.roles { options.roleDTypes[role] = .some(choice.type.dtype) }
        }
        options.saturates = saturate
        options.mayBeUnused = { [allowUnused] name in allowUnused.contains { matches(name, glob: $0) } }
        return options
    }
}

/// `f32`, `f16`, `bf16`, `keep`.
enum FloatType: String, ExpressibleByArgument, CaseIterable {
    case f32
    case f16
    case bf16
    case keep

    /// nil for what stays as it is.
    var dtype: DType? {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .keep: nil
        }
    }
}

/// `decay=f32`.
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

/// `hf`, `official`, ...
struct LayoutName: ExpressibleByArgument {
    let layout: TensorLayout

    init?(argument: String) {
        guard let layout = TensorLayout.all.first(where: { $0.name == argument }) else { return nil }
        self.layout = layout
    }
}
