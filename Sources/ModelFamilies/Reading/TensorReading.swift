import Bytes
import CheckpointFiles

extension ModelReading {
    /// Determines each layer's kind, each tensor's role, and the sizes on which most tensors agree.
    mutating func find(in index: TensorIndex) {
        quantisation = Quantisation.find(index.occurrences.keys, ownConfiguration)
        findLayers(index)
        let ignoredNames = Set(layout.ignoredNames.map { NamePattern($0) })
        let quantised = Set(index.quantisedWeights.values)
        var votes: [ModelDimension: [Int: Int]] = [:]
        func vote(_ role: TensorRole, _ sizes: [Int]) {
            for (dimension, size) in zip(role.shape, sizes) where ModelDimension.plausible ~= size {
                votes[dimension, default: [:]][size, default: 0] += 1
            }
        }
        // For each group of fused roles, the number of tensors with each row count.
        var heights: [[TensorRole]: [Int: Int]] = [:]
        var adapterCount = 0
        for (pattern, occurrences) in index.occurrences.sorted(by: { $0.key.bytes < $1.key.bytes }) {
            let mark = index.quantisedWeights[pattern]
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
                    // Roles with the same shape split the rows evenly. For other roles, `solve` determines the row
                    // counts.
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
        if case .rwkv6? = architecture.timeMix { dimensions[.shiftCount] = TimeMix6.shiftCount }
        // The most common size wins, so that a single tensor with the wrong shape has no effect.
        for dimension in ModelDimension.allCases {
            guard let found = votes[dimension] else { continue }
            let most = found.max { ($0.value, $1.key) < ($1.value, $0.key) }
            if dimensions[dimension] == nil { dimensions[dimension] = most?.key }
        }
        for (roles, votes) in heights {
            solve(roles, height: votes.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key)
        }
        fillEqualities()
    }

    /// Sets the stages of time mixing that vary between models of the family.
    ///
    /// Tensors that the model's stages do not use become unexpected.
    mutating func settleStages(_ index: TensorIndex?) throws(CheckpointError) {
        guard let variable = architecture.variableStages, var timeMix = architecture.timeMix else { return }
        let found = places.filter { place in
            variable.roles.contains(place.key.role)
                && place.key.layer.map { layers[$0].kind.carriesState } == true
        }
        try variable.settle(&timeMix, index.map { _ in Set(found.map(\.key.role)) }, configuration)
        architecture.timeMix = timeMix
        layers = layers.map { $0.kind.carriesState ? layer(timeMix.kind) : $0 }
        let used = timeMix.roles.all
        for place in found.keys.sorted(by: { ($0.layer ?? 0, $0.role.rawValue) < ($1.layer ?? 0, $1.role.rawValue) })
        where !used.contains(place.role) {
            places[place] = nil
            guard let name = layout.name(of: place.role, layer: place.layer) else { continue }
            let origin = configuration.map { " that \($0.path) selects" } ?? ""
            add(.unexpected, name, "\(name) is not a tensor of the stages of time mixing\(origin)")
        }
    }

    /// The configuration if it describes this model, or nil if it is missing or describes the student's teacher.
    var ownConfiguration: ModelConfiguration? {
        configuration.flatMap { configuration in
            configuration.name == nil || configuration.names(architecture) ? configuration : nil
        }
    }

    var title: String { architecture.variant(of: layers.map(\.kind)) ?? architecture.family }

    /// Derives the unknown row count of roles that are fused into a tensor of `height` rows.
    ///
    /// This method has no effect unless exactly one of the roles' dimensions is unknown.
    mutating func solve(_ roles: [TensorRole], height: Int?) {
        let unknown = Set(roles.map { $0.shape[0] }.filter { dimensions[$0] == nil })
        guard let height, unknown.count == 1, let dimension = unknown.first else { return }
        let times = roles.count { $0.shape[0] == dimension }
        let rest = roles.reduce(height) { $0 - (dimensions[$1.shape[0]] ?? 0) }
        if rest > 0, rest % times == 0 { dimensions[dimension] = rest / times }
    }

    mutating func findLayers(_ index: TensorIndex) {
        // If the family has no layers of the kind that the tensors show, the layer is undecided and its tensors are
        // unexpected.
        let kinds = index.layerKinds(in: layout, of: architecture.kinds).map { kind in
            kind.flatMap { architecture.kinds.contains($0) ? $0 : nil }
        }
        undecidedLayers = kinds.indices.filter { kinds[$0] == nil }
        layers = kinds.map { layer($0 ?? kindOfFrozenLayers ?? architecture.kinds[0]) }
    }

    /// Returns a layer of the given kind, which the architecture must have.
    func layer(_ kind: LayerKind) -> LayerSpec {
        guard let layer = architecture.layer(kind) else {
            preconditionFailure("the architecture has no layers of this kind")
        }
        return layer
    }

    /// The kind to assume for layers without mixer tensors, or nil if the layout stores all tensors.
    ///
    /// If the layout stores only trained tensors, such layers are attention layers.
    var kindOfFrozenLayers: LayerKind? {
        layout.holdsTrainedOnly ? architecture.kinds.first(where: \.hasCache) : nil
    }

    /// Returns the places whose weights a tensor contains.
    ///
    /// These are the places of the first role that the tensor's layer can have, and of the roles that are fused with
    /// it.
    func places(_ roles: [TensorRole], _ number: Int?) -> [Place] {
        for role in roles {
            if role.isPerLayer {
                guard let number, layers.indices.contains(number),
                    rolesOfKind[layers[number].kind]?.contains(role) == true
                else { continue }
                return (layout.fusion(of: role) ?? [role]).map { Place(role: $0, layer: number) }
            }
            if number ?? 0 == 0, modelRoles.contains(role) { return [Place(role: role)] }
        }
        return []
    }

    mutating func fillEqualities() {
        for (dimension, other) in architecture.impliedSizes where dimensions[dimension] == nil {
            dimensions[dimension] = dimensions[other]
        }
    }
}
