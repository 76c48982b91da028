public import ArgumentParser
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
public import LayerPlanning
import ModelFamilies

struct Plan: ReportingCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Plans which layers of a transformer stay attention, and what that costs.",
        usage: """
            rwkv-ckpt plan Qwen3-8B --target hxa079 --gqa-layers 6
            rwkv-ckpt plan Qwen3-8B --target hxa079 --kv-cache 512MiB --context 32768
            rwkv-ckpt plan config.json --target hxa079 --published reka-flash-3.1
            rwkv-ckpt plan Qwen3-8B --target cxa079 --keep-gqa none -o plan.json
            """,
        discussion: """
            TEACHER is a checkpoint, a model directory, or a config.json alone. All other layers become RWKV-7 time mixing of the \
            target. Nothing is run: layers are chosen by list, by number and spacing, by memory, or as a published model has them. \
            Layer 0 gives later layers its first values, and is not chosen unless it is listed.

            The plan records every choice that changes an equation, ranks, initialisers and a seed.

            Exit status: 0 done, 64 wrong usage, 65 the teacher is malformed or cannot be converted faithfully, 66 no such input, 73 \
            the output cannot be created, 74 reading or writing failed.
            """)

    @Argument(help: ArgumentHelp("The teacher.", valueName: "TEACHER"), completion: .file())
    var path: String

    @Option(
        help: ArgumentHelp(
            "What time mixing to plan for: \(ArchitectureRegistry.targetNames.joined(separator: ", ")).",
            valueName: "NAME"))
    var target: String

    @Option(help: ArgumentHelp("The layers that stay attention: 3,7,11, none or all.", valueName: "LAYERS"))
    var keepGqa: LayerList?

    @Option(help: ArgumentHelp("How many layers stay attention, 0 or more.", valueName: "N"))
    var gqaLayers: Int?

    @Option(
        help: ArgumentHelp(
            "As many attention layers as fit into this much memory at --context, with the state of the other layers: 512MiB, 2GB.",
            valueName: "BYTES"))
    var kvCache: ByteCount?

    @Option(
        help: ArgumentHelp(
            "The layers of a published model: \(PublishedSelection.all.map(\.name).joined(separator: ", ")).",
            valueName: "NAME"))
    var published: String?

    @Option(
        help: ArgumentHelp(
            "Tokens of context for --kv-cache, and for the memory that is shown: 1 to 1099511627776.", valueName: "T"))
    var context = 32768

    @Option(
        help: ArgumentHelp(
            "Where --gqa-layers and --kv-cache put layers: last-of-group, uniform, or prior (where published searches found them).",
            valueName: "SPACING"))
    var spacing: LayerSelection.Spacing?

    @Option(help: ArgumentHelp("Layers that must stay attention.", valueName: "LAYERS"))
    var require: LayerList?

    @Option(help: ArgumentHelp("Layers that must not stay attention.", valueName: "LAYERS"))
    var forbid: LayerList?

    @Option(help: ArgumentHelp("The least distance between two layers that stay attention, 1 or more.", valueName: "N"))
    var minGap: Int?

    @Option(help: ArgumentHelp("Whether attention that stays is run with rotation: on, off.", valueName: "on|off"))
    var gqaRope: Switch?

    @Option(help: ArgumentHelp("The seed of random initialisers, 0 or greater.", valueName: "N"))
    var seed = 0

    @OptionGroup var model: ModelOptions

    @Option(
        name: .shortAndLong, help: ArgumentHelp("Write the plan to a file.", valueName: "FILE"), completion: .file())
    var output: String?

    @Flag(help: "Replace the output if it exists.")
    var force = false

    @Flag(help: "Print the plan as one JSON document (schemas/plan.schema.json).")
    var json = false

    func validate() throws {
        let ways = [keepGqa != nil, gqaLayers != nil, kvCache != nil, published != nil]
        guard ways.count(where: { $0 }) == 1 else {
            throw ValidationError("Give one of --keep-gqa, --gqa-layers, --kv-cache and --published.")
        }
        if keepGqa != nil || published != nil {
            guard spacing == nil, require == nil, forbid == nil, minGap == nil else {
                throw ValidationError(
                    "--spacing, --require, --forbid and --min-gap go with --gqa-layers and --kv-cache: lists are taken as they are."
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
                turnsAttention: gqaRope.map { $0 == .on }, seed: seed)
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

    /// An error of the teacher, or of the option that asks for what cannot be.
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

/// `3,7,11`, `none`, `all`.
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

/// `on`, `off`.
enum Switch: String, ExpressibleByArgument, CaseIterable {
    case on
    case off
}

extension LayerSelection.Spacing: ExpressibleByArgument {}
