import CheckpointFiles
import CheckpointJSON

extension ModelReading {
    /// Checks the tensors against the architecture's roles and shapes, and adds any differences to the findings.
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
        if architecture.timeMix?.sharesKeys == false, let all = dimensions[.attentionWidth],
            let keys = dimensions[.keyValueWidth], keys != all
        {
            add(.contradiction, nil, "\(title) has no keys of another width (\(keys)) than the receptance (\(all))")
        }
        if let all = dimensions[.attentionWidth], let heads = dimensions[.heads], let size = dimensions[.headSize],
            heads.multipliedReportingOverflow(by: size) != (all, false)
        {
            add(.contradiction, nil, "\(heads) heads of \(size) do not make up the attention width of \(all)")
        }
    }

    mutating func check(_ index: TensorIndex, _ roles: RoleSet, layer: Int?, _ presentRoles: Set<TensorRole>) {
        for role in TensorRole.all where roles.all.contains(role) {
            guard let name = layout.name(of: role, layer: layer) else { continue }
            guard let found = places[Place(role: role, layer: layer)] else {
                let isWanted =
                    roles.required.contains(role)
                    || roles.groups.contains { $0.contains(role) && !$0.isDisjoint(with: presentRoles) }
                // A fused tensor is reported once, for its first role.
                if isWanted, layout.fusion(of: role)?.first ?? role == role {
                    add(.missing, name, "\(name) is missing")
                }
                continue
            }
            guard let position = found else { continue }
            let tensor = index.checkpoint.tensors[position]
            // The shape of a fused tensor is checked once, for its first role.
            let fusion = layout.fusion(of: role) ?? [role]
            guard fusion.first == role else { continue }
            guard let expected = dimensions.shape(of: fusion) else {
                if !tensor.shape.allSatisfy({ ModelDimension.plausible ~= $0 }) {
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
    var usesRoPE: Bool {
        architecture.timeMix?.usesRoPE == true || (layers.contains(where: \.kind.hasCache) && attentionUsesRoPE)
    }

    /// The names of sizes and config.json keys that the equations need but whose values are not known.
    var unknown: [String] {
        var unknown: [String] = []
        if epsilon == nil { unknown.append(architecture.body.epsilonKey) }
        // A config.json of the family can omit a key, but that of a teacher does not set the student's stages.
        if configuration?.names(architecture) != true {
            let keys = architecture.variableStages?.hiddenKeys ?? []
            unknown += keys.filter { configuration?.root[$0] ?? .null == .null }
        }
        if usesRoPE, rotary == nil { unknown.append("rope_theta") }
        if configuration == nil, architecture.body.keys.contains("sliding_window") { unknown.append("sliding_window") }
        let dimensions = ModelDimension.allCases.filter { dimension in
            switch dimension {
            case .heads, .keyValueHeads, .headSize: true
            default: false
            }
        }
        return unknown + dimensions.filter { self.dimensions[$0] == nil }.map(\.title)
    }
}
