public import Bytes
import CheckpointJSON
public import CheckpointFiles

/// The result of recognising a model.
public enum ModelRecognition: Sendable {
    /// A model of a supported architecture.
    case model(ModelDescription)
    /// A model of a family that is recognised but not supported.
    case other(family: String, variant: String?, evidence: [String])
    /// A model whose tensors match several candidates.
    case undecided(candidates: [String], evidence: [String])

    /// Recognises a model from its tensors, a config.json, or both.
    ///
    /// - Parameters:
    ///   - checkpoint: the checkpoint, or nil if there is only a config.json.
    ///   - configuration: a config.json, either the model's own or its teacher's.
    ///   - variant: the name of the variant that the tensors must match, or nil to determine the variant.
    ///   - architectures: the architectures to consider.
    /// - Returns: the result, or nil if the tensors match no known family and no config.json names one.
    /// - Throws: `CheckpointError` of category `unsupported` if `variant` is unknown, or of category `malformed` if
    ///   the config.json has invalid values or the tensors do not match `variant`.
    public static func recognize(
        _ checkpoint: Checkpoint?, configuration: ModelConfiguration?, variant: String? = nil,
        among architectures: [Architecture] = ArchitectureRegistry.standard
    ) throws(CheckpointError) -> ModelRecognition? {
        if let variant, !architectures.contains(where: { $0.variants.contains(variant) }) {
            throw CheckpointError(
                .unsupported, path: checkpoint?.path ?? configuration?.path ?? "", "unknown variant",
                found: variant)
        }
        let body = configuration.flatMap { configuration in architectures.first { configuration.namesBody($0) } }
        let architectures = architectures.map { $0.hasTeachersBody ? body.map($0.over) ?? $0 : $0 }
        let configured = configuration.flatMap { configuration in architectures.first { configuration.names($0) } }
        guard let checkpoint else {
            guard let configuration, let name = configuration.name else { return nil }
            guard let configured else {
                return .other(family: name.text, variant: nil, evidence: [configuration.evidence])
            }
            return .model(
                try ModelDescription(
                    try configured.resolved(by: configuration), nil, configured.layouts[0], configuration,
                    evidence: [configuration.evidence]))
        }
        var layouts: [TensorLayout] = []
        for layout in architectures.flatMap(\.layouts)
        where !layouts.contains(where: { $0.name == layout.name && $0.names == layout.names }) {
            layouts.append(layout)
        }
        let sample = TensorIndex.sample(checkpoint)
        let evidence = configuration.map { $0.name == nil ? [] : [$0.evidence] } ?? []
        guard let index = TensorIndex(checkpoint, layouts: layouts),
            let name = layouts.map({ ($0.name, index.count(in: $0)) }).max(by: { $0.1 < $1.1 })?.0
        else { return other(sample, configuration, evidence) }

        var fits: [Fit] = []
        for architecture in architectures {
            guard let layout = architecture.layouts.first(where: { $0.name == name }) else { continue }
            // If a student keeps all of its teacher's attention, only its name identifies it.
            let isNamed =
                architecture.hasTeachersBody && configured?.name == architecture.name
            fits.append(
                Fit(try architecture.resolved(by: configuration), index, layout, allowsNoTimeMixing: isNamed))
        }
        func describe(_ fit: Fit, _ findings: [ModelFinding] = []) throws(CheckpointError) -> ModelRecognition {
            .model(
                try ModelDescription(
                    fit.architecture, index, fit.layout, configuration,
                    evidence: evidence + [fit.evidence(among: fits)] + (index.prefixes.evidence.map { [$0] } ?? []),
                    findings: findings))
        }
        let exact = fits.filter { fit in
            let isNamed =
                fit.architecture.variants.contains { $0 == variant || $0 == configured?.variant }
                || fit.architecture.name == configured?.name
            return fit.mismatches.isEmpty && (fit.architecture.indistinguishableVariants.isEmpty || isNamed)
        }
        if let variant {
            guard let fit = exact.first(where: { $0.architecture.variants.contains(variant) }) else {
                let near = fits.first { $0.architecture.variants.contains(variant) }
                throw CheckpointError(
                    .malformed, path: checkpoint.path, "the tensors are not those of \(variant)",
                    found: near?.mismatches.first)
            }
            return try describe(fit)
        }
        if configuration?.root["rwkv_architecture"] != nil || configured?.hasTeachersBody == true,
            let fit = exact.first(where: { $0.architecture.name == configured?.name })
        {
            return try describe(fit)
        }
        // Several families of teachers have the same tensors, so the name in config.json decides.
        if let configured, configured.isTeacher,
            let fit = exact.first(where: { $0.architecture.name == configured.name })
        {
            return try describe(fit)
        }
        guard exact.count <= 1 else {
            return .undecided(candidates: exact.map(\.architecture.name), evidence: evidence)
        }
        if let fit = exact.first {
            // Time-mixing tensors outweigh the name in a config.json that was copied from the teacher.
            if fit.architecture.timeMix != nil,
                configuration?.root["rwkv_architecture"] == nil || configured?.variant == fit.architecture.variant
            {
                return try describe(fit)
            }
            if configured == nil, configuration?.name == nil { return try describe(fit) }
        }
        if let configured, let fit = fits.first(where: { $0.architecture.name == configured.name }) {
            let other = exact.first.map { exact in
                ModelFinding(
                    kind: .contradiction, tensor: nil,
                    message:
                        "\(evidence.joined(separator: ", ")), but the tensors are those of \(exact.architecture.name)")
            }
            if fit.mismatches.isEmpty || exact.first != nil || configuration?.root["rwkv_architecture"] != nil
                || UnsupportedFamily.find(index.occurrences.keys) == nil
            {
                return try describe(fit, fit.mismatches.isEmpty ? [] : other.map { [$0] } ?? [])
            }
        }
        return other(index.occurrences.keys, configuration, evidence)
    }

    /// Returns the result for a family that is not supported, or nil if no such family is recognised.
    private static func other(
        _ patterns: some Collection<NamePattern>, _ configuration: ModelConfiguration?, _ evidence: [String]
    ) -> ModelRecognition? {
        if let (other, names) = UnsupportedFamily.find(patterns) {
            let evidence = evidence + ["tensors: " + names.joined(separator: ", ")]
            // Variants with attention layers are called hxa instead of cxa: hxa07b is cxa07b with attention layers.
            let named = configuration?.root["rwkv_architecture"]?.string
            let variant = other.variants.first {
                named == ByteString($0) || named == ByteString($0.replacing("cxa", with: "hxa"))
            }
            let variants = variant.map { [$0] } ?? other.variants
            if variants.count > 1 { return .undecided(candidates: variants, evidence: evidence) }
            return .other(family: other.family, variant: variants.first, evidence: evidence)
        }
        return configuration?.name.map { .other(family: $0.text, variant: nil, evidence: evidence) }
    }
}

/// A comparison of a checkpoint's tensor names with the names that an architecture expects.
///
/// Names in layers count only if most layers of a kind have them. A single missing or extra tensor therefore does not
/// rule out a family.
private struct Fit {
    let architecture: Architecture
    let layout: TensorLayout
    /// The differences, one clause each; empty if the names match.
    let mismatches: [String]
    private let found: [TensorRole: NamePattern]
    /// The roles that the architecture's layers can have.
    private let layerRoles: Set<TensorRole>

    init(
        _ architecture: Architecture, _ index: TensorIndex, _ layout: TensorLayout, allowsNoTimeMixing: Bool
    ) {
        self.architecture = architecture
        self.layout = layout
        let kinds = index.layerKinds(in: layout, of: architecture.kinds)
        var counts = kinds.reduce(into: [LayerKind?: Int]()) { $0[$1, default: 0] += 1 }
        // If the kind of a layer is unknown, its names count only if more than half of all layers have them.
        counts[nil] = kinds.count
        let ignoredNames = Set(layout.ignoredNames.map { NamePattern($0) })
        let modelRoles = architecture.modelRoles
        let allModelRoles = modelRoles.all
        let rolesOfKind = architecture.kinds.reduce(into: [:]) { $0[$1] = architecture.layerRoles($1) }
        let allRolesOfKind = rolesOfKind.mapValues(\.all)
        let layerRoles = allRolesOfKind.values.reduce(into: Set<TensorRole>()) { $0.formUnion($1) }
        var found: [TensorRole: NamePattern] = [:]
        var mismatches: [String] = []
        for (pattern, occurrences) in index.occurrences {
            let weight = index.quantisedWeights[pattern]
            let roles = layout.roles(of: weight ?? pattern)
            if let role = roles.first(where: { !$0.isPerLayer && allModelRoles.contains($0) }) {
                found[role] = pattern
            }
            var ofKind: [LayerKind?: Int] = [:]
            for case let number? in occurrences.lazy.map(\.number) where kinds.indices.contains(number) {
                ofKind[kinds[number], default: 0] += 1
            }
            for (kind, count) in ofKind where count * 2 > counts[kind, default: 0] {
                let allowed = kind.map { allRolesOfKind[$0] ?? [] } ?? layerRoles
                if let role = roles.first(where: { allowed.contains($0) }) {
                    for role in layout.fusion(of: role) ?? [role] { found[role] = pattern }
                } else if weight == nil, !ignoredNames.contains(pattern), !Adapter.isPart(pattern),
                    roles.allSatisfy(\.isPerLayer)
                {
                    mismatches.append("\(pattern.text) present")
                }
            }
        }
        var required = modelRoles.required
        if layout.holdsTrainedOnly { required.subtract([.finalNormWeight]) }
        for kind in Set(kinds.compactMap { $0 }) {
            if layout.holdsTrainedOnly {
                required.formUnion(kind.carriesState ? architecture.timeMix?.trainedRoles ?? [] : [])
            } else {
                required.formUnion(rolesOfKind[kind]?.required ?? [])
            }
        }
        if architecture.timeMix != nil, !kinds.contains(where: { $0?.carriesState == true }), !allowsNoTimeMixing {
            mismatches.append("no time-mixing layer")
        }
        for role in required where found[role] == nil {
            mismatches.append("\(layout.names[role] ?? role.rawValue) missing")
        }
        self.mismatches = mismatches.sorted()
        self.found = found
        self.layerRoles = layerRoles
    }

    /// Returns a clause that states what distinguishes this architecture from the others.
    func evidence(among fits: [Fit]) -> String {
        let others = fits.filter {
            $0.architecture.name != architecture.name && $0.architecture.indistinguishableVariants.isEmpty
        }
        let lacking = found.keys.filter(\.isPerLayer).reduce(into: [TensorRole: [String]]()) { lacking, role in
            // Another architecture can have the same name for another role.
            guard let pattern = found[role] else { return }
            lacking[role] = others.filter { other in
                !other.layerRoles.contains(role)
                    && other.layerRoles.isDisjoint(with: other.layout.roles(of: pattern))
            }.map(\.architecture.name)
        }
        let telling = lacking.max { ($0.value.count, $1.key.rawValue) < ($1.value.count, $0.key.rawValue) }
        if let telling, let pattern = found[telling.key], !telling.value.isEmpty {
            let (names, count) = (telling.value, telling.value.count)
            let others =
                count > 3 ? "\(names[0]), \(names[1]) and \(count - 2) others" : names.joined(separator: ", ")
            return "tensors: \(pattern.text), which \(others) \(count == 1 ? "does" : "do") not have"
        }
        let alike = architecture.familiesWithSameTensors.joined(separator: ", ")
        return (mismatches.isEmpty ? "tensors: exact match" : "tensors: closest match")
            + (alike.isEmpty ? "" : "; \(alike) would have the same tensors")
    }
}
