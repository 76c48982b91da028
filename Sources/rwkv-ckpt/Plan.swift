public import ArgumentParser
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
public import LayerPlanning
import ModelFamilies

struct Plan: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract:
            "Plans which layers of a transformer remain attention layers, and reports the cost in memory and parameters.",
        usage: """
            rwkv-ckpt plan Qwen3-8B --target hxa079 --gqa-layers 6
            rwkv-ckpt plan Qwen3-8B --target hxa079 --kv-cache 512MiB --context 32768
            rwkv-ckpt plan config.json --target hxa079 --published reka-flash-3.1
            rwkv-ckpt plan Qwen3-8B --target cxa079 --keep-gqa none -o plan.json
            """,
        discussion: """
            Some layers of TEACHER stay attention; all others become the RWKV-7 time mixing of the target. The model is not run: \
            attention layers are listed (--keep-gqa), chosen by count (--gqa-layers) or memory budget (--kv-cache), or taken \
            from a published model (--published). Layer 0 supplies the values that later layers mix in, so it stays attention \
            only if it is named.

            The plan records every choice that changes an equation, the ranks, the initialisers and a seed.

            Exit status: 0 done, 64 usage error, 65 the teacher is malformed or cannot be converted faithfully, 66 no such \
            input, 73 the output cannot be created, 74 reading or writing failed.
            """)

    @Argument(
        help: ArgumentHelp("Teacher: a checkpoint, a model directory, or only a config.json.", valueName: "TEACHER"),
        completion: .file())
    var path: String

    @Option(
        help: ArgumentHelp(
            "Architecture of the student: \(ArchitectureRegistry.targetNames.joined(separator: ", ")).",
            valueName: "NAME"))
    var target: String

    @Option(help: ArgumentHelp("Attention layers to keep, counted from 0: 3,7,11, none or all.", valueName: "LAYERS"))
    var keepGqa: LayerList?

    @Option(help: ArgumentHelp("Number of attention layers to keep, 0 or greater.", valueName: "N"))
    var gqaLayers: Int?

    @Option(
        help: ArgumentHelp(
            "Memory budget for the KV cache at --context and the state of the other layers: 512MiB, 2GB. As many layers stay attention as fit.",
            valueName: "BYTES"))
    var kvCache: ByteCount?

    @Option(
        help: ArgumentHelp(
            "Keep the attention layers of a published model: \(PublishedSelection.all.map(\.name).joined(separator: ", ")).",
            valueName: "NAME"))
    var published: String?

    @Option(
        help: ArgumentHelp(
            "Context length for --kv-cache and for the memory in the report: 1 to 1099511627776 tokens.", valueName: "T"
        ))
    var context = 32768

    @Option(
        help: ArgumentHelp(
            "Which layers --gqa-layers and --kv-cache choose: the last (last-of-group) or the middle (uniform) of equal groups, or the positions that published layer searches favour (prior). Default: prior.",
            valueName: "SPACING"))
    var spacing: LayerSelection.Spacing?

    @Option(
        help: ArgumentHelp(
            "Layers that --gqa-layers and --kv-cache must choose: 3,7,11, none or all. Default: none.",
            valueName: "LAYERS"))
    var require: LayerList?

    @Option(
        help: ArgumentHelp(
            "Layers that --gqa-layers and --kv-cache must not choose: 3,7,11, none or all. Default: none.",
            valueName: "LAYERS"))
    var forbid: LayerList?

    @Option(
        help: ArgumentHelp(
            "Minimum distance between two chosen layers, 1 or more; neighbours have a distance of 1. Default: 1.",
            valueName: "N"))
    var minGap: Int?

    @Option(
        help: ArgumentHelp(
            "Whether layers that stay attention use RoPE. Default: on for cxa076, off for cxa079 and hxa079.",
            valueName: "on|off"))
    var gqaRope: Switch?

    @Option(help: ArgumentHelp("Seed for random initialisers, 0 or greater.", valueName: "N"))
    var seed = 0

    @OptionGroup var model: ModelOptions

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Output file for the plan, as JSON. Default: no file.", valueName: "FILE"),
        completion: .file())
    var output: String?

    @Flag(help: "Replace the output if it exists.")
    var force = false

    @Flag(help: "Print the plan as one JSON document (schemas/plan.schema.json).")
    var json = false

    func validate() throws {
        let ways = [keepGqa != nil, gqaLayers != nil, kvCache != nil, published != nil]
        guard ways.count(where: { $0 }) == 1 else {
            throw ValidationError("Give exactly one of --keep-gqa, --gqa-layers, --kv-cache and --published.")
        }
        if keepGqa != nil || published != nil {
            guard spacing == nil, require == nil, forbid == nil, minGap == nil else {
                throw ValidationError(
                    "--spacing, --require, --forbid and --min-gap require --gqa-layers or --kv-cache."
                )
            }
        }
        guard ArchitectureRegistry.target(named: target) != nil else {
            throw ValidationError(
                "--target must be one of \(ArchitectureRegistry.targetNames.joined(separator: ", ")), not \(target).")
        }
        try check("--context", context, in: 1...1 << 40)
        try check("--gqa-layers", gqaLayers, in: 0...)
        try check("--min-gap", minGap, in: 1...)
        try check("--seed", seed, in: 0...)
    }

    func report() throws {
        guard let target = ArchitectureRegistry.target(named: target) else { return }
        let found = try RecognisedModel(path: path, model.hints, temporaryDirectory: temporaryDirectory())
        let teacher = try found.description
        if !json { found.warnings.forEach(printWarning) }
        let plan: LayerPlan
        do throws(LayerPlanError) {
            plan = try LayerPlan(
                of: teacher, target: target, choice(layerCount: teacher.layers.count),
                attentionUsesRoPE: gqaRope.map { $0 == .on }, seed: seed)
        } catch {
            throw refusal(error)
        }
        if let output {
            let bytes = try ByteOutput.bytes { try plan.writeJSON(to: $0, context: context) }
            let file = try UnfinishedFile(path: output, replaces: force)
            try file.write(bytes)
            try file.commit()
        }
        if json {
            try plan.writeJSON(to: standardOutput(), context: context)
        } else {
            try PlanReport(plan, path: path, context: context).writeText(to: standardOutput())
        }
    }

    private func choice(layerCount: Int) -> LayerChoice {
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
                "--kv-cache: at --context \(context) \(student) exceeds the budget of \(byteText(bytes)).")
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
