import CheckpointFiles

extension ModelDescription {
    /// What becomes of this model when the layers that are not in `attention` are turned into time mixing of a target.
    ///
    /// - Parameters:
    ///   - target: an architecture with a ``StudentRecipe``.
    ///   - attention: the layers that stay as they are.
    ///   - ranks: of the low-rank parts, where they are not to be the recipe's.
    ///   - turnsAttention: whether the layers that stay are run with rotation.
    ///   - firstValues: which layer gives first values.
    /// - Returns: nil where the target has no recipe, or sizes are not known.
    public func student(
        _ target: Architecture, attention: Set<Int>, ranks: [Dimension: Int] = [:], turnsAttention: Bool,
        firstValues: FirstValues = .firstTimeMixing
    ) -> ModelDescription? {
        guard let recipe = target.conversion, let timeMix = target.timeMix,
            let width = dimensions[.attentionWidth]
        else { return nil }
        var sizes = dimensions
        for (dimension, rank) in recipe.ranks { sizes[dimension] = ranks[dimension] ?? rank(attentionWidth: width) }
        for (dimension, other) in target.equalities { sizes[dimension] = sizes[other] }
        let present = Set(tensors.map(\.role))
        var optional = optionalRoles.union(present).intersection([
            .queryBias, .keyBias, .valueBias, .outputBias, .queryNorm, .keyNorm,
        ])
        if present.contains(.queryBias) {
            optional.formUnion([.receptanceBias, .timeMixKeyBias, .timeMixValueBias])
        }
        if present.contains(.outputBias) { optional.insert(.timeMixOutputBias) }
        // Where the teacher has none they begin at one.
        if timeMix.headNorm != .never { optional.formUnion([.receptanceNorm, .timeMixKeyNorm]) }
        return ModelDescription(
            architecture: target, evidence: [], layout: nil, dimensions: sizes,
            layers: layers.enumerated().map { attention.contains($0) ? $1 : .rwkv7 }, epsilon: epsilon, rotary: rotary,
            turnsAttention: turnsAttention, firstValues: firstValues, stretchesTimeMixing: stretchesTimeMixing,
            hasTiedHead: hasTiedHead, optionalRoles: optional,
            storesUnusedResiduals: timeMix.storesUnusedResiduals, positions: [:], quantisation: nil, findings: [],
            findingCount: 0,
            unknown: unknown)
    }

    /// This student with the attention of its teacher in these layers, and in no others.
    ///
    /// - Parameters:
    ///   - teacher: the model that it was made of.
    ///   - attention: the layers that are attention then; all others mix time.
    ///   - turnsAttention: whether they are run with rotation.
    ///   - firstValues: which layer gives first values.
    /// - Returns: what it becomes.
    public func restored(
        from teacher: ModelDescription, attention: Set<Int>, turnsAttention: Bool, firstValues: FirstValues
    ) -> ModelDescription {
        var student = completed(by: teacher)
        student.layers = teacher.layers.enumerated().map { attention.contains($0) ? $1 : .rwkv7 }
        student.turnsAttention = turnsAttention
        student.firstValues = firstValues
        if let first = student.layerOfFirstValues, let timeMix = architecture.timeMix {
            student.storesUnusedResiduals = timeMix.residualRoles.allSatisfy {
                positions[TensorPlace(role: $0, layer: first)] != nil
            }
        }
        return student
    }

    /// This student, of which files hold a part, with what its teacher has in attention beyond what every model has.
    public func completed(by teacher: ModelDescription) -> ModelDescription {
        var student = self
        let present = Set(teacher.tensors.map(\.role))
        student.optionalRoles.formUnion(present.intersection(architecture.attention?.roles.optional ?? []))
        return student
    }

    /// This model as a layout holds it: with a head of its own, without residuals that nothing uses.
    ///
    /// - Parameters:
    ///   - layout: that holds it.
    ///   - hasTiedHead: whether the embedding is the head, where the layout leaves the choice.
    /// - Returns: what the layout holds.
    public func stored(in layout: TensorLayout, hasTiedHead: Bool) -> ModelDescription {
        var model = self
        model.hasTiedHead = hasTiedHead && !layout.separatesHead
        if !layout.holdsUnusedResiduals { model.storesUnusedResiduals = false }
        return model
    }

    /// Why no student can be made of this model; nil where one can.
    public var obstacle: String? { obstacle { _ in false } }

    /// Why no student can be made of this model; nil where one can.
    ///
    /// - Parameter mayBeUnused: whether a tensor of this name may stand there that the model has not.
    /// - Returns: a clause that says it.
    public func obstacle(_ mayBeUnused: (String) -> Bool) -> String? {
        guard architecture.isTeacher else {
            return "\(variant ?? architecture.family) is not a transformer that students are made of"
        }
        return flaw { $0.kind == .unexpected && ($0.tensor.map(mayBeUnused) ?? false) }
    }

    /// Why this model cannot be run; nil where it can.
    ///
    /// Tensors that it has no use for are in nobody's way.
    public var runningObstacle: String? { flaw { $0.kind == .unexpected } }

    /// What stands in the way of all that is done with a model, findings left aside that are `harmless`.
    private func flaw(_ harmless: (ModelFinding) -> Bool) -> String? {
        let findings = findings.filter { !harmless($0) }
        if let quantisation {
            return quantisation.obstacle
        }
        if let finding = findings.first {
            return finding.message + (findings.count > 1 ? ", and \(findings.count - 1) more such" : "")
        }
        if !unknown.isEmpty {
            return
                "\(unknown.joined(separator: ", ")) \(unknown.count == 1 ? "is" : "are") not known: a config.json that says so is given by --config"
        }
        return nil
    }

    /// What tells this model from others of other sizes or constants, whatever its names, files and dtypes: 64 hexadecimal digits.
    public var identity: String {
        var text = "\(architecture.family) \(layers.map(\.rawValue).joined(separator: " "))\n"
        for tensor in tensors { text += "\(tensor.role.rawValue) \(tensor.layer ?? -1) \(tensor.shape ?? [])\n" }
        text += "epsilon \(epsilon ?? 0)\n"
        if let rotary { text += "rope \(rotary.text)\n" }
        return sha256(of: Array(text.utf8))
    }
}
