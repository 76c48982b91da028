public import ArgumentParser
import Bytes
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
public import LayerPlanning
import ModelFamilies

struct Plan: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Plans which layers of a transformer keep attention.",
        usage: """
            rwkv-ckpt plan <TEACHER> --target <NAME> --gqa-layers <N> [options]
            rwkv-ckpt plan <TEACHER> --target <NAME> --kv-cache <BYTES> [options]
            rwkv-ckpt plan <TEACHER> --target <NAME> --keep-gqa <LAYERS> [options]
            rwkv-ckpt plan <TEACHER> --target <NAME> --published <NAME> [options]
            """,
        discussion: """
            EXAMPLES:
              # Keep 6 attention layers.
              rwkv-ckpt plan Qwen3-8B --target hxa079 --gqa-layers 6 -o plan.json
              # Keep as many as fit into 512 MiB at 32768 tokens.
              rwkv-ckpt plan Qwen3-8B --target hxa079 --kv-cache 512MiB --context 32768
              # Keep none.
              rwkv-ckpt plan Qwen3-8B --target cxa079 --keep-gqa none -o plan.json

            Some layers of TEACHER keep attention; in all others, the target's time mixing replaces it. The report shows \
            the student's memory use and parameter count; the model is not run.

            Choose the attention layers with exactly one option: by count (--gqa-layers), by memory budget (--kv-cache), as a list \
            (--keep-gqa), or as in a published model (--published). --spacing decides where layers go that are chosen by count or budget: at the end \
            (last-of-group) or in the middle (uniform) of groups of equal size, or where published layer searches favour them (prior). \
            The first time-mixing layer supplies values that later layers mix in. It should be layer 0, so layer 0 keeps \
            attention only if it is listed explicitly.

            Published models: \(PublishedSelection.all.map(\.name).joined(separator: ", ")).

            The plan records the ranks, the initialisers, a seed, and every choice that affects what the student computes.

            Exit status: 0 done; 64 usage error; 65 the teacher is malformed or cannot be converted faithfully; 66 no such \
            input; 73 the output cannot be created; 74 reading or writing failed.
            """)

    @Argument(
        help: ArgumentHelp("Teacher: a checkpoint, a model directory, or only a config.json.", valueName: "TEACHER"),
        completion: .file())
    var path: String

    @OptionGroup(title: "Required options") var required: RequiredOptions
    @OptionGroup(title: "Layers") var layers: LayerOptions
    @OptionGroup(title: "Student") var student: StudentOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Output") var result: OutputOptions

    var json: Bool { result.json }

    func report() throws {
        try layers.checkChoice()
        guard let target = ArchitectureRegistry.target(named: required.target) else { return }
        let found = try RecognisedModel(path: path, model.hints, temporaryDirectory: temporaryDirectory())
        let teacher = try found.description
        if !json { found.warnings.forEach(printWarning) }
        let plan: LayerPlan
        do throws(LayerPlanError) {
            plan = try LayerPlan(
                of: teacher, target: target, layers.choice(layerCount: teacher.layers.count),
                attentionUsesRoPE: student.gqaRope.map { $0 == .on }, seed: student.seed)
        } catch {
            throw refusal(error)
        }
        let report = PlanReport(plan, path: path, context: layers.context)
        for file in [result.output, result.html] {
            try check(file, isNoFileOf: found.checkpoint.map { [$0] } ?? [], or: [found.configuration?.path])
        }
        if let output = result.output, let html = result.html, leadToSameFile(output, html) {
            throw CheckpointError(.cannotCreate, path: html, "it is also the plan file")
        }
        try write(plan, report)
        if json {
            try plan.writeJSON(to: standardOutput(), context: layers.context)
        } else {
            try report.writeText(to: standardOutput())
        }
    }

    /// Writes the plan file and the page, if requested; neither appears before both have been written.
    private func write(_ plan: LayerPlan, _ report: PlanReport) throws {
        let file = try unfinishedFile(result.output) {
            try ByteOutput.bytes { try plan.writeJSON(to: $0, context: layers.context) }
        }
        let page = try unfinishedFile(result.html) { Array(report.html.utf8) }
        if let file = consume file { try file.commit() }
        if let page = consume page { try page.commit() }
    }

    private func unfinishedFile(_ path: String?, _ bytes: () throws -> [UInt8]) throws -> UnfinishedFile? {
        guard let path else { return nil }
        let file = try UnfinishedFile(path: path, replaces: result.force)
        try file.write(bytes())
        return file
    }

    /// Returns the error for a plan that is not possible, which names the teacher or the option at fault.
    private func refusal(_ error: LayerPlanError) -> any Error {
        let option: String
        switch error {
        case .unfitTeacher, .unknownSizes: return CheckpointError(.unsupported, path: path, error.description)
        case .budget(let bytes, _, let smallest, let count):
            let student =
                count == 0
                ? "the RWKV state alone (\(byteText(smallest)))"
                : "the smallest student that the conditions allow (\(byteText(smallest)) with \(countText(count, "attention layer")))"
            return ValidationError(
                "--kv-cache: at --context \(layers.context) \(student) exceeds the budget of \(byteText(bytes)).")
        case .noAttention: option = "--target"
        case .noSuchLayer(_, in: .kept, _): option = "--keep-gqa"
        case .noSuchLayer(_, in: .required, _): option = "--require"
        case .noSuchLayer(_, in: .forbidden, _): option = "--forbid"
        case .unknownPublished, .publishedLayerCount: option = "--published"
        case .requiredAndForbidden: option = "--require, --forbid"
        case .requiredTooClose: option = "--require, --min-gap"
        case .gap: option = "--min-gap"
        case .negativeSeed: option = "--seed"
        case .count: option = "--gqa-layers"
        }
        return ValidationError("\(option): \(error).")
    }
}

extension Plan {
    struct RequiredOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "Architecture of the student: \(ArchitectureRegistry.targetNames.joined(separator: ", ")).",
                valueName: "NAME"))
        var target: String

        func validate() throws {
            guard ArchitectureRegistry.target(named: target) != nil else {
                throw ValidationError(
                    "--target must be one of \(ArchitectureRegistry.targetNames.joined(separator: ", ")), not \(target)."
                )
            }
        }
    }

    struct LayerOptions: ParsableArguments {
        @Option(help: ArgumentHelp("Number of attention layers to keep: 0 or greater.", valueName: "N"))
        var gqaLayers: Int?

        @Option(
            help: ArgumentHelp(
                "Memory budget, such as 512MiB or 2GB, for the KV cache at the length given by --context, plus the other layers' state. Attention is kept in as many layers as fit.",
                valueName: "BYTES"))
        var kvCache: ByteCount?

        @Option(
            help: ArgumentHelp(
                "Attention layers to keep, counted from 0: a list such as 3,7,11, or none or all.", valueName: "LAYERS")
        )
        var keepGqa: LayerList?

        @Option(
            help: ArgumentHelp(
                "Keep the same attention layers as this published model: one of those listed above, with as many layers as TEACHER.",
                valueName: "NAME"))
        var published: String?

        @Option(
            help: ArgumentHelp(
                "Context length in tokens, for --kv-cache and the memory in the report: 1 to 1099511627776.",
                valueName: "T"
            ))
        var context = 32768

        @Option(
            help: ArgumentHelp(
                "Placement of the layers that --gqa-layers and --kv-cache choose (see above). Default: prior.",
                valueName: "SPACING"))
        var spacing: LayerSelection.Spacing?

        @Option(
            help: ArgumentHelp(
                "Layers that --gqa-layers and --kv-cache must choose: a list such as 3,7,11, or none or all. Default: none.",
                valueName: "LAYERS"))
        var require: LayerList?

        @Option(
            help: ArgumentHelp(
                "Layers that --gqa-layers and --kv-cache must not choose: a list such as 3,7,11, or none or all. Default: none.",
                valueName: "LAYERS"))
        var forbid: LayerList?

        @Option(
            help: ArgumentHelp(
                "Minimum distance between two chosen layers: 1 or more; 1 allows neighbours. Default: 1.",
                valueName: "N"))
        var minGap: Int?

        func validate() throws {
            try check("--context", context, in: 1...1 << 40)
            try check("--gqa-layers", gqaLayers, in: 0...)
            try check("--min-gap", minGap, in: 1...)
        }

        /// Throws `ValidationError` unless the layers are chosen in exactly one way.
        ///
        /// This is not in `validate()`, which argument-parser calls before it reports unknown options: a misspelt option would
        /// be reported as missing.
        func checkChoice() throws {
            let ways = [keepGqa != nil, gqaLayers != nil, kvCache != nil, published != nil]
            guard ways.count(where: { $0 }) == 1 else {
                throw ValidationError("Give exactly one of --gqa-layers, --kv-cache, --keep-gqa and --published.")
            }
            if keepGqa != nil || published != nil {
                guard spacing == nil, require == nil, forbid == nil, minGap == nil else {
                    throw ValidationError(
                        "--spacing, --require, --forbid and --min-gap require --gqa-layers or --kv-cache."
                    )
                }
            }
        }

        func choice(layerCount: Int) -> LayerChoice {
            if let keepGqa { return .listed(keepGqa.layers(of: layerCount)) }
            if let published { return .published(published) }
            var conditions = LayerConditions()
            conditions.spacing = spacing ?? conditions.spacing
            conditions.required = require?.layers(of: layerCount) ?? []
            conditions.forbidden = forbid?.layers(of: layerCount) ?? []
            conditions.minimumGap = minGap ?? conditions.minimumGap
            if let kvCache { return .budget(kvCache.count, context: context, conditions) }
            return .count(gqaLayers ?? 0, conditions)
        }
    }

    struct StudentOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "Whether layers that keep attention use RoPE. Default: on for cxa076, rad-rwkv7 and rad-rwkv6, off for all others.",
                valueName: "on|off"))
        var gqaRope: Switch?

        @Option(help: ArgumentHelp("Seed for random initialisers: 0 or greater.", valueName: "N"))
        var seed = 0

        func validate() throws {
            try check("--seed", seed, in: 0...)
        }
    }

    struct OutputOptions: ParsableArguments {
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp("Output file for the plan, as JSON. Default: no file.", valueName: "FILE"),
            completion: .file())
        var output: String?

        @Option(
            help: ArgumentHelp(
                "Output file for the report with charts, as a self-contained HTML page. Default: no file.",
                valueName: "FILE"),
            completion: .file())
        var html: String?

        @Flag(help: "Replace the plan file and the HTML page if they exist.")
        var force = false

        @Flag(help: "Print the plan as one JSON document (schemas/plan.schema.json).")
        var json = false
    }
}

/// A set of layers as an option's value: `3,7,11`, `none` or `all`.
enum LayerList: ExpressibleByArgument {
    case these(Set<Int>)
    case all

    init?(argument: String) {
        switch argument {
        case "all": self = .all
        case "none": self = .these([])
        default:
            let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
            let known = numbers.compactMap { $0 }
            guard known.count == numbers.count, Set(known).count == known.count else { return nil }
            self = .these(Set(known))
        }
    }

    func layers(of count: Int) -> Set<Int> {
        switch self {
        case .these(let layers): layers
        case .all: Set(0..<count)
        }
    }
}

/// `on` or `off` as an option's value.
enum Switch: String, ExpressibleByArgument, CaseIterable {
    case on
    case off
}

extension LayerSelection.Spacing: ExpressibleByArgument {}
