import CheckpointFiles
import CheckpointJSON

extension ModelDescription {
    /// Describes a model by matching an architecture with tensors and a configuration, at least one of which is given.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` if the configuration has invalid values or, without tensors, lacks
    ///   the number of layers.
    init(
        _ architecture: Architecture, _ index: TensorIndex?, _ layout: TensorLayout,
        _ configuration: ModelConfiguration?,
        evidence: [String], findings: [ModelFinding] = []
    ) throws(CheckpointError) {
        var reading = ModelReading(architecture, layout, configuration, findings)
        if let index { reading.find(in: index) }
        try reading.readConfiguration(hasTensors: index != nil)
        if let index { reading.check(index) }
        self.init(reading, hasTensors: index != nil, evidence: evidence)
    }

    private init(_ reading: ModelReading, hasTensors: Bool, evidence: [String]) {
        architecture = reading.architecture
        self.evidence = evidence
        layout = hasTensors ? reading.layout : nil
        dimensions = reading.dimensions
        layers = reading.layers
        epsilon = reading.epsilon
        rotary = reading.rotary
        attentionUsesRoPE = reading.attentionUsesRoPE
        firstValues = reading.firstValues
        scalesTimeMixingRoPE = reading.scalesTimeMixingRoPE
        hasTiedHead = reading.hasTiedHead
        optionalRoles = reading.optionalRoles
        storesUnusedResiduals = reading.storesUnusedResiduals
        logitSoftcap = reading.logitSoftcap
        bindings = reading.bindings
        quantisation = reading.quantisation
        findings = reading.findings
        findingCount = reading.findingCount
        unknown = reading.unknown
    }
}

/// What is known about one model while its tensors and configuration are read, step by step.
private struct ModelReading {
    private typealias Place = TensorPlace

    let architecture: Architecture
    let layout: TensorLayout
    private let configuration: ModelConfiguration?

    private(set) var dimensions = Dimensions()
    private(set) var layers: [LayerSpec] = []
    private(set) var logitSoftcap: Double?
    private(set) var epsilon: Double?
    private(set) var rotary: RotaryEmbedding?
    private(set) var attentionUsesRoPE = true
    private(set) var firstValues = ModelDescription.FirstValues.firstTimeMixing
    private(set) var scalesTimeMixingRoPE = true
    private(set) var hasTiedHead = false
    private(set) var optionalRoles: Set<TensorRole> = []
    private(set) var storesUnusedResiduals: Bool
    private(set) var quantisation: Quantisation?
    private(set) var findings: [ModelFinding]
    private(set) var findingCount: Int
    private var countsByKind: [ModelFinding.Kind: Int] = [:]

    /// Positions of tensors in the checkpoint; nil for weights that are only present as quantised tensors.
    private var places: [Place: Int?] = [:]
    /// The tensor, and its rows, for each place that was found.
    var bindings: [TensorPlace: TensorBinding] {
        places.reduce(into: [:]) { bindings, entry in
            guard let position = entry.value else { return }
            bindings[entry.key] = TensorBinding(position: position, rows: layout.rows(of: entry.key.role, dimensions))
        }
    }
    /// Indices of layers with neither receptance nor queries.
    private var undecidedLayers: [Int] = []

    init(
        _ architecture: Architecture, _ layout: TensorLayout, _ configuration: ModelConfiguration?,
        _ findings: [ModelFinding]
    ) {
        self.findings = findings
        findingCount = findings.count
        self.architecture = architecture
        self.layout = layout
        self.configuration = configuration
        storesUnusedResiduals = architecture.timeMix?.storesUnusedResiduals ?? false
    }

    private mutating func add(_ kind: ModelFinding.Kind, _ tensor: String?, _ message: String) {
        findingCount += 1
        // The limit is per kind, so that harmless findings cannot crowd out the others.
        countsByKind[kind, default: 0] += 1
        guard countsByKind[kind, default: 0] <= ModelFinding.limit else { return }
        findings.append(ModelFinding(kind: kind, tensor: tensor, message: message))
    }

    // MARK: Tensors

    /// Finds the kind of every layer, each tensor's role, and the sizes on which most tensors agree.
    mutating func find(in index: TensorIndex) {
        quantisation = Quantisation.find(index.occurrences.keys, ownConfiguration)
        findLayers(index)
        let ignoredNames = Set(layout.ignoredNames.map { NamePattern($0) })
        let quantised = Set(index.occurrences.keys.compactMap(Quantisation.weight))
        var votes: [Dimension: [Int: Int]] = [:]
        func vote(_ role: TensorRole, _ sizes: [Int]) {
            for (dimension, size) in zip(role.shape, sizes) where Dimension.plausible ~= size {
                votes[dimension, default: [:]][size, default: 0] += 1
            }
        }
        // Row counts of fused tensors, with the number of tensors that have them.
        var heights: [[TensorRole]: [Int: Int]] = [:]
        var adapterCount = 0
        for (pattern, occurrences) in index.occurrences.sorted(by: { $0.key.bytes < $1.key.bytes }) {
            let mark = Quantisation.weight(of: pattern)
            let roles = layout.roles(of: mark ?? pattern)
            for occurrence in occurrences {
                let found = self.places(roles, occurrence.number)
                guard let place = found.first else {
                    if Adapter.isPart(pattern) { adapterCount += 1 }
                    guard !ignoredNames.contains(pattern), !Adapter.isPart(pattern) else { continue }
                    let name = index.tensor(occurrence).name
                    add(.unexpected, name, "\(name) is not a tensor of \(title)")
                    continue
                }
                if mark != nil || quantised.contains(pattern) {
                    for place in found { places[place] = places[place] ?? .some(nil) }
                    continue
                }
                let tensor = index.tensor(occurrence)
                if let earlier = places[place] ?? nil {
                    add(
                        .unexpected, tensor.name,
                        "\(tensor.name) has the same role as \(index.checkpoint.tensors[earlier].name)")
                    continue
                }
                for place in found { places[place] = occurrence.position }
                if quantisation == nil, ![.f64, .f32, .f16, .bf16].contains(tensor.dtype) {
                    quantisation = Quantisation(
                        method: tensor.dtype.rawValue, evidence: "\(tensor.name) has this dtype without a scale")
                }
                guard var sizes = layout.sizes(ofStored: tensor.shape, place.role) else { continue }
                if found.count > 1, let rows = sizes.first {
                    heights[found.map(\.role), default: [:]][rows, default: 0] += 1
                    // Roles of the same shape share the rows equally; for others, `solve` finds the heights.
                    guard Set(found.map(\.role.shape)).count == 1, rows % found.count == 0 else {
                        sizes[0] = 0
                        vote(place.role, sizes)
                        continue
                    }
                    sizes[0] = rows / found.count
                }
                vote(place.role, sizes)
            }
        }
        for position in index.others {
            let name = index.checkpoint.tensors[position].name
            add(.otherModel, name, "\(name) is not a tensor of the text model")
        }
        if adapterCount > 0 {
            add(.undescribed, nil, "\(adapterCount) adapter tensors are not merged into the weights")
        }
        // The majority decides, so that one tensor of the wrong shape has no effect.
        for dimension in Dimension.allCases {
            guard let found = votes[dimension] else { continue }
            let most = found.max { ($0.value, $1.key) < ($1.value, $0.key) }
            if dimensions[dimension] == nil { dimensions[dimension] = most?.key }
        }
        for (roles, votes) in heights {
            solve(roles, height: votes.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key)
        }
        fillEqualities()
    }

    /// The configuration, unless it is that of the student's teacher.
    private var ownConfiguration: ModelConfiguration? {
        configuration.flatMap { configuration in
            configuration.name == nil || configuration.names(architecture) ? configuration : nil
        }
    }

    private var title: String { architecture.variant(of: layers.map(\.kind)) ?? architecture.family }

    /// Finds the only unknown height among roles that are fused in a tensor with `height` rows.
    private mutating func solve(_ roles: [TensorRole], height: Int?) {
        let unknown = Set(roles.map { $0.shape[0] }.filter { dimensions[$0] == nil })
        guard let height, unknown.count == 1, let dimension = unknown.first else { return }
        let times = roles.count { $0.shape[0] == dimension }
        let rest = roles.reduce(height) { $0 - (dimensions[$1.shape[0]] ?? 0) }
        if rest > 0, rest % times == 0 { dimensions[dimension] = rest / times }
    }

    private mutating func findLayers(_ index: TensorIndex) {
        // A layer of a kind that the family does not have is undecided; its tensors are then unexpected.
        let kinds = index.layerKinds(in: layout).map { kind in
            kind.flatMap { architecture.kinds.contains($0) ? $0 : nil }
        }
        undecidedLayers = kinds.indices.filter { kinds[$0] == nil }
        layers = kinds.map { layer($0 ?? kindOfFrozenLayers ?? architecture.kinds[0]) }
    }

    /// A layer of a kind, which the architecture must have.
    private func layer(_ kind: LayerKind) -> LayerSpec {
        guard let layer = architecture.layer(kind) else {
            preconditionFailure("the architecture has no layers of this kind")
        }
        return layer
    }

    /// The kind of layers that have no mixer in a layout without frozen tensors: the teacher's attention; nil for other layouts.
    private var kindOfFrozenLayers: LayerKind? {
        layout.holdsTrainedOnly ? architecture.kinds.first(where: \.hasCache) : nil
    }

    /// The places that a tensor fills: of a pattern's roles, the one that its layer's kind has, with those fused with it.
    private func places(_ roles: [TensorRole], _ number: Int?) -> [Place] {
        for role in roles {
            if role.isPerLayer {
                guard let number, layers.indices.contains(number),
                    layers[number].roles(norm: architecture.body.norm).all.contains(role)
                else { continue }
                return (layout.fusion(of: role) ?? [role]).map { Place(role: $0, layer: number) }
            }
            if number ?? 0 == 0, architecture.modelRoles.all.contains(role) { return [Place(role: role)] }
        }
        return []
    }

    private mutating func fillEqualities() {
        for (dimension, other) in architecture.impliedSizes where dimensions[dimension] == nil {
            dimensions[dimension] = dimensions[other]
        }
    }

    // MARK: Configuration

    mutating func readConfiguration(hasTensors: Bool) throws(CheckpointError) {
        epsilon = architecture.body.fixedEpsilon
        if let configuration {
            epsilon =
                try configuration.positive(architecture.body.epsilonKey) ?? epsilon ?? architecture.body.assumedEpsilon
            rotary = try RotaryEmbedding(configuration, of: architecture.body)
            if let softcap = architecture.body.logitSoftcap {
                logitSoftcap = try configuration.cap(softcap.key, assumed: softcap.assumed)
            }
            let firsts = ModelDescription.FirstValues.allCases.map(\.rawValue)
            let first = try configuration.choice("first_values", of: firsts)
            firstValues = first.flatMap { ModelDescription.FirstValues($0) } ?? firstValues
            scalesTimeMixingRoPE = try configuration.choice("rwkv_rope_scaling", of: ["teacher", "none"]) != "none"
        }
        quantisation = quantisation ?? Quantisation.find([NamePattern](), ownConfiguration)
        attentionUsesRoPE =
            try configuration?.flag("nope_in_transformer").map { !$0 } ?? architecture.conversion?.attentionUsesRoPE
            ?? true
        // A teacher's tie_word_embeddings says nothing about its student, and the head of a partial checkpoint may be elsewhere.
        let says = try ownConfiguration?.flag("tie_word_embeddings")
        let isWhole = places[Place(role: .embedding)] != nil && places[Place(role: .finalNormWeight)] != nil
        hasTiedHead =
            says ?? (hasTensors ? isWhole && places[Place(role: .head)] == nil : architecture.assumesTiedHead)
        guard let configuration else { return decideAttention() }

        let path = configuration.path
        if let count = try configuration.size("num_hidden_layers") {
            guard count <= TensorIndex.layerLimit else {
                throw configuration.malformed("num_hidden_layers", expected: "at most \(TensorIndex.layerLimit)")
            }
            if !hasTensors { layers = Array(repeating: layer(architecture.kinds[0]), count: count) }
            if let kind = kindOfFrozenLayers {
                while layers.count < count { layers.append(layer(kind)) }
            }
            if count != layers.count {
                add(
                    .contradiction, nil,
                    "\(path) sets num_hidden_layers to \(count), but there are tensors for \(layers.count) layers")
            }
        } else if !hasTensors {
            throw configuration.malformed("num_hidden_layers", expected: "the number of layers")
        }
        let said = try configuration.dimensions(of: architecture)
        for dimension in Dimension.allCases {
            guard let size = said[dimension] else { continue }
            if let found = dimensions[dimension] {
                if found != size {
                    add(
                        .contradiction, nil,
                        "\(path) implies \(dimension.title) \(size), but the tensors give \(found)")
                }
            } else {
                dimensions[dimension] = size
            }
        }
        fillEqualities()
        try readKinds(configuration, hasTensors: hasTensors)
        let maximumLength = try configuration.size("max_position_embeddings")
        for index in layers.indices {
            layers[index].rotation = rotary
            try architecture.body.refine(&layers[index], index, configuration)
            // A window that no sequence fills changes nothing.
            if let window = layers[index].attention?.window, window >= maximumLength ?? .max {
                layers[index].attention?.window = nil
            }
            layers[index].rotation = rotation(of: layers[index])
        }
        for (key, what) in configuration.undescribed(
            in: architecture, Set(layers.compactMap(\.rotation)).union(rotary.map { [$0] } ?? []))
        {
            add(.undescribed, nil, "\(path) sets \(key) to \(what), which is not implemented for \(title)")
        }
        if !hasTensors {
            if try configuration.flag("attention_bias") == true {
                optionalRoles.formUnion([
                    .queryBias, .keyBias, .valueBias, .receptanceBias, .timeMixKeyBias, .timeMixValueBias,
                ])
            }
            if try configuration.flag("enable_qk_norm") == true {
                optionalRoles.formUnion([.queryNorm, .keyNorm, .receptanceNorm, .timeMixKeyNorm])
            }
        }
        decideAttention()
        if let size = dimensions[.headSize] {
            for rotation in Set(layers.compactMap(\.rotation)).sorted(by: { $0.text < $1.text }) {
                let turned = Int(Double(size) * (rotation.parameters["partial_rotary_factor"] ?? 1))
                for (key, list) in rotation.lists.sorted(by: { $0.key < $1.key }) where list.count != turned / 2 {
                    add(
                        .contradiction, nil,
                        "\(path) has \(list.count) numbers in \(key), where heads of \(size) need \(turned / 2)")
                }
                if turned % 2 != 0 || turned < 2 {
                    add(.undescribed, nil, "RoPE cannot rotate \(turned) of the \(size) channels of a head in pairs")
                }
            }
        }
        if let heads = dimensions[.heads], let others = dimensions[.keyValueHeads], others > 0, heads % others != 0 {
            add(.contradiction, nil, "\(heads) heads cannot share \(others) key-value heads evenly")
        }
    }

    /// Reads from the configuration which layers are attention.
    private mutating func readKinds(
        _ configuration: ModelConfiguration, hasTensors: Bool
    ) throws(CheckpointError) {
        // A partial checkpoint may have fewer layers than its configuration.
        let count = max(layers.count, try configuration.size("num_hidden_layers") ?? 0)
        guard architecture.timeMix != nil, architecture.attention != nil,
            let attention = try configuration.layers("transformer_layers", count: count)
        else { return }
        for layer in layers.indices {
            let kind = architecture.kinds.first { $0.hasCache == attention.contains(layer) } ?? layers[layer].kind
            if !hasTensors || undecidedLayers.contains(layer) {
                layers[layer] = self.layer(kind)
            } else if layers[layer].kind != kind {
                add(
                    .contradiction, nil,
                    "\(configuration.path) has layer \(layer) \(kind.hasCache ? "" : "not ")in transformer_layers, but its tensors are those of \(layers[layer].kind.rawValue)"
                )
            }
        }
    }

    /// Marks attention layers as multi-head, not grouped-query, if keys are as wide as queries.
    private mutating func decideAttention() {
        if let all = dimensions[.attentionWidth], all == dimensions[.keyValueWidth] {
            for index in layers.indices where layers[index].kind.hasCache {
                layers[index].attention?.isMultiHead = true
            }
        }
    }

    /// The rotary embedding of a layer, derived from its family's; nil if its mixer does not use RoPE.
    private func rotation(of layer: LayerSpec) -> RotaryEmbedding? {
        guard let timeMix = layer.timeMix else { return attentionUsesRoPE ? layer.rotation : nil }
        return timeMix.rotation(from: layer.rotation, isScaled: scalesTimeMixingRoPE)
    }

    // MARK: Checks

    /// Compares every tensor with those that the architecture has, and adds the differences to the findings.
    mutating func check(_ index: TensorIndex) {
        let presentRoles = places.keys.reduce(into: Set<TensorRole>()) { $0.insert($1.role) }
        let first = firstValues.layer(of: layers.map(\.kind))
        var model = architecture.modelRoles
        if !hasTiedHead { model.add([.head], .always) }
        check(index, model, layer: nil, presentRoles)
        for (layer, spec) in layers.enumerated() {
            var roles = spec.roles(norm: architecture.body.norm)
            optionalRoles.formUnion(roles.optional.intersection(presentRoles))
            if layer == first, let timeMix = architecture.timeMix {
                roles.makeOptional(timeMix.residualRoles)
                storesUnusedResiduals = timeMix.residualRoles.allSatisfy {
                    places[Place(role: $0, layer: layer)] != nil
                }
            }
            check(index, roles, layer: layer, presentRoles)
        }
        if let all = dimensions[.attentionWidth], let heads = dimensions[.heads], let size = dimensions[.headSize],
            heads.multipliedReportingOverflow(by: size) != (all, false)
        {
            add(.contradiction, nil, "\(heads) heads of \(size) do not make up the attention width of \(all)")
        }
    }

    private mutating func check(_ index: TensorIndex, _ roles: RoleSet, layer: Int?, _ presentRoles: Set<TensorRole>) {
        for role in TensorRole.all where roles.all.contains(role) {
            guard let name = layout.name(of: role, layer: layer) else { continue }
            guard let found = places[Place(role: role, layer: layer)] else {
                let isResidual = architecture.timeMix?.residualRoles.contains(role) == true
                let isRecord = role == .architectureRecord || role == .headSizeRecord
                let isWanted =
                    roles.required.contains(role)
                    || (presentRoles.contains(role) && !isResidual && !isRecord && role != .head)
                if isWanted { add(.missing, name, "\(name) is missing") }
                continue
            }
            guard let position = found else { continue }
            let tensor = index.checkpoint.tensors[position]
            // The shape of a fused tensor is checked once, for its first role.
            let fusion = layout.fusion(of: role) ?? [role]
            guard fusion.first == role else { continue }
            guard let expected = dimensions.shape(of: fusion) else {
                if !tensor.shape.allSatisfy({ Dimension.plausible ~= $0 }) {
                    add(.shape, tensor.name, "\(tensor.name) has the implausible shape \(tensor.shape)")
                } else if quantisation == nil {
                    let unknown = fusion.flatMap(\.shape).filter { dimensions[$0] == nil }.map(\.title).joined(
                        separator: ", ")
                    add(.shape, tensor.name, "\(tensor.name) has shape \(tensor.shape), but \(unknown) is not known")
                }
                continue
            }
            guard layout.sizes(ofStored: tensor.shape, role) != expected,
                !(expected.isEmpty && tensor.elementCount == 1)
            else { continue }
            let what = role.shape.isEmpty ? "a scalar" : role.shape.map(\.title).joined(separator: ", ")
            add(
                .shape, tensor.name,
                "\(tensor.name) has shape \(tensor.shape), not \(layout.stored(expected, of: role)) (\(what))")
        }
    }

    /// Whether any layer uses RoPE.
    private var usesRoPE: Bool {
        architecture.timeMix?.rotary == .teacher || (layers.contains(where: \.kind.hasCache) && attentionUsesRoPE)
    }

    /// The sizes and config.json keys that the equations need and that are not known.
    var unknown: [String] {
        var unknown: [String] = []
        if epsilon == nil { unknown.append(architecture.body.epsilonKey) }
        if usesRoPE, rotary == nil { unknown.append("rope_theta") }
        if configuration == nil, architecture.body.keys.contains("sliding_window") { unknown.append("sliding_window") }
        let dimensions = Dimension.allCases.filter { dimension in
            switch dimension {
            case .heads, .keyValueHeads, .headSize: true
            default: false
            }
        }
        return unknown + dimensions.filter { self.dimensions[$0] == nil }.map(\.title)
    }
}
