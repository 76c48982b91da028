public import CheckpointFiles
import CheckpointJSON

/// What a checkpoint was found to be.
public enum ModelRecognition: Sendable {
    /// A model of an architecture that is described.
    case model(ModelDescription)
    /// A family that is known by name alone.
    case other(family: String, variant: String?, evidence: [String])
    /// One of several, which tensors cannot tell apart, or none of which they fit.
    case undecided(candidates: [String], evidence: [String])

    /// Finds out what a checkpoint is by its tensors and a config.json, or by one of them.
    ///
    /// - Parameters:
    ///   - checkpoint: its tensors; nil where there is a config.json alone.
    ///   - configuration: a config.json: the model's own, or its teacher's.
    ///   - variant: the name that decides where tensors cannot.
    ///   - architectures: those that are known.
    /// - Returns: nil where nothing is of any known layout.
    /// - Throws: ``CheckpointError``: `malformed` where the config.json has impossible values or the tensors are not of `variant`.
    public static func recognize(
        _ checkpoint: Checkpoint?, configuration: ModelConfiguration?, variant: String? = nil,
        among architectures: [Architecture] = ArchitectureRegistry.standard
    ) throws(CheckpointError) -> ModelRecognition? {
        let configured = configuration?.name.flatMap { name in
            architectures.first { $0.configurationNames.contains(name) }
        }
        let wanted = variant.flatMap { name in
            architectures.first { [$0.variant, $0.hybridVariant].contains(name) }
        }
        if let variant, wanted == nil {
            throw CheckpointError(
                .unsupported, path: checkpoint?.path ?? configuration?.path ?? "", "the variant is not described",
                found: variant)
        }
        let layouts = architectures.flatMap(\.layouts)
        guard let checkpoint, let index = TensorIndex(checkpoint, layouts: layouts) else {
            return try recognize(configuration, configured: checkpoint == nil ? configured : nil)
        }
        guard let best = layouts.map({ ($0, index.count(in: $0)) }).max(by: { $0.1 < $1.1 })?.0 else { return nil }
        let fits = architectures.filter { $0.layouts.contains { $0.name == best.name } }.map { architecture in
            Fit(architecture.resolved(by: configuration), index, best)
        }

        var evidence: [String] = []
        if let configuration, let name = configuration.name {
            evidence.append(
                "\(configuration.path): \(configuration.root["rwkv_architecture"] == nil ? "model_type" : "rwkv_architecture") \"\(name)\""
            )
        }
        let exact = fits.filter { $0.mismatches.isEmpty }
        func describe(_ fit: Fit) throws(CheckpointError) -> ModelRecognition {
            .model(
                try ModelDescription(
                    fit.architecture, index, best, configuration, evidence: evidence + [fit.evidence(among: fits)]))
        }
        if let wanted {
            guard
                let fit = fits.first(where: {
                    $0.architecture.family == wanted.family && $0.architecture.variant == wanted.variant
                }),
                fit.mismatches.isEmpty
            else {
                throw CheckpointError(
                    .malformed, path: checkpoint.path, "the tensors are not those of \(variant ?? "")",
                    found: fits.first { $0.architecture.variant == wanted.variant }?.mismatches.first)
            }
            return try describe(fit)
        }
        // A config.json may be the teacher's of a student, never the other way.
        let fitting = exact.count == 1 ? exact[0] : nil
        if let fitting,
            configured == nil || configured?.family == fitting.architecture.family
                || (configured?.isTeacher == true && !fitting.architecture.isTeacher)
        {
            if configured == nil, let name = configuration?.name {
                return .other(family: name, variant: nil, evidence: evidence)
            }
            return try describe(fitting)
        }
        if let (other, names) = OtherFamily.find(index.occurrences.keys) {
            evidence.append("tensors: " + names.joined(separator: ", "))
            if other.variants.count > 1 { return .undecided(candidates: other.variants, evidence: evidence) }
            return .other(family: other.family, variant: other.variants.first, evidence: evidence)
        }
        if let configured,
            let fit = fits.first(where: {
                $0.architecture.variant == configured.variant && $0.architecture.family == configured.family
            })
        {
            return try describe(fit)
        }
        if let name = configuration?.name, configured == nil {
            return .other(family: name, variant: nil, evidence: evidence)
        }
        let closest = fits.map(\.mismatches.count).min() ?? 0
        let close = fits.filter { $0.mismatches.count == closest }
        guard let first = close.first, first.foundCount >= 5 else { return nil }
        if close.count == 1, closest * 4 <= first.requiredCount { return try describe(first) }
        return .undecided(
            candidates: close.map { $0.architecture.variant ?? $0.architecture.family },
            evidence: evidence
                + close.compactMap { fit in
                    fit.mismatches.first.map {
                        "\(fit.architecture.variant ?? fit.architecture.family) would have it that \($0)"
                    }
                })
    }

    private static func recognize(
        _ configuration: ModelConfiguration?, configured: Architecture?
    ) throws(CheckpointError) -> ModelRecognition? {
        guard let configuration, let configured else { return nil }
        return .model(
            try ModelDescription(
                configured.resolved(by: configuration), nil, configured.layouts[0], configuration,
                evidence: ["\(configuration.path): \"\(configuration.name ?? "")\""]))
    }
}

/// How well the patterns of a checkpoint's names go with an architecture.
private struct Fit {
    let architecture: Architecture
    /// What does not, a clause each.
    let mismatches: [String]
    /// How many roles are there, and how many must be.
    let foundCount, requiredCount: Int
    private let found: [TensorRole: NamePattern]

    init(_ architecture: Architecture, _ index: TensorIndex, _ layout: TensorLayout) {
        self.architecture = architecture
        var candidates: [TensorRole: NamePattern] = [:]
        var kinds: [LayerKind] = []
        var patterns = Set(index.occurrences.keys)
        for pattern in patterns { if let weight = Quantisation.weight(of: pattern) { patterns.insert(weight) } }
        for pattern in patterns { for role in layout.roles(of: pattern) { candidates[role] = pattern } }
        if candidates[.receptanceWeight] != nil { kinds.append(.rwkv7) }
        if candidates[.queryWeight] != nil { kinds.append(.gqa) }

        var roles = architecture.modelRoles
        for kind in kinds.isEmpty ? architecture.kinds : kinds {
            var ofKind = architecture.layerRoles(kind)
            if layout.omitsFrozen {
                ofKind.makeOptional(ofKind.required.subtracting(architecture.timeMix?.trainedRoles ?? []))
            }
            roles.add(ofKind)
        }
        if layout.omitsFrozen { roles.makeOptional([.finalNormWeight]) }
        let strays = Set(layout.strays.map { NamePattern($0) })
        var mismatches: [String] = []
        for pattern in patterns
        where !strays.contains(pattern) && Quantisation.weight(of: pattern) == nil && !Adapter.isPart(pattern) {
            let known = layout.roles(of: pattern)
            if !known.contains(where: roles.all.contains) { mismatches.append("\(pattern.text) is not there") }
        }
        if architecture.timeMix != nil, !kinds.contains(.rwkv7) { mismatches.append("a layer mixes time") }
        for role in roles.required where candidates[role] == nil {
            mismatches.append("\(layout.names[role] ?? role.rawValue) is there")
        }
        self.mismatches = mismatches.sorted()
        found = candidates.filter { roles.all.contains($0.key) }
        foundCount = found.count
        requiredCount = roles.required.count
    }

    private var name: String { architecture.variant ?? architecture.family }

    /// What tells this architecture from the others.
    func evidence(among fits: [Fit]) -> String {
        let others = fits.filter { $0.name != name }
        let lacking = found.keys.filter(\.isOfLayer).reduce(into: [TensorRole: [String]]()) { lacking, role in
            lacking[role] = others.filter { other in
                !other.architecture.kinds.contains { other.architecture.layerRoles($0).all.contains(role) }
            }.map(\.name)
        }
        let telling = lacking.max { ($0.value.count, $1.key.rawValue) < ($1.value.count, $0.key.rawValue) }
        if let telling, let pattern = found[telling.key], !telling.value.isEmpty {
            return
                "tensors: \(pattern.text), which \(telling.value.joined(separator: ", ")) \(telling.value.count == 1 ? "has" : "have") not"
        }
        let alike = architecture.lookAlikes.joined(separator: ", ")
        return (mismatches.isEmpty ? "tensors: all that it has and nothing else" : "tensors: nearest to it")
            + (alike.isEmpty ? "" : "; those of \(alike) would look the same")
    }
}
