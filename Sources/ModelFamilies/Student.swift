import CheckpointFiles
import CheckpointJSON

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
        let target = target.over(architecture)
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
            layers: layers.enumerated().map {
                $1.student(
                    isAttention: attention.contains($0), target, timeMix, turnsAttention: turnsAttention,
                    stretchesTimeMixing: stretchesTimeMixing)
            }, epsilon: epsilon, rotary: rotary, turnsAttention: turnsAttention, firstValues: firstValues,
            stretchesTimeMixing: stretchesTimeMixing, hasTiedHead: hasTiedHead, optionalRoles: optional,
            storesUnusedResiduals: timeMix.storesUnusedResiduals, logitSoftcap: logitSoftcap, bindings: [:],
            quantisation: nil, findings: [], findingCount: 0, unknown: unknown)
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
        // Attention has what a student without any did not state, such as a window.
        student.architecture = architecture.over(teacher.architecture)
        if let timeMix = architecture.timeMix {
            student.layers = teacher.layers.enumerated().map {
                $1.student(
                    isAttention: attention.contains($0), architecture, timeMix, turnsAttention: turnsAttention,
                    stretchesTimeMixing: stretchesTimeMixing)
            }
        }
        student.turnsAttention = turnsAttention
        student.firstValues = firstValues
        if let first = student.layerOfFirstValues, let timeMix = architecture.timeMix {
            student.storesUnusedResiduals = timeMix.residualRoles.allSatisfy {
                bindings[TensorPlace(role: $0, layer: first)] != nil
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

    /// Why no student can be planned of this model; nil where one can.
    ///
    /// Tensors of another model beside the text model do not matter before the conversion itself.
    public var obstacle: String? { teachingObstacle { $0.kind == .otherModel } }

    /// Why no student can be made of this model; nil where one can.
    ///
    /// - Parameter mayBeUnused: whether a tensor of this name may stand there that the model has not.
    /// - Returns: a clause that says it.
    public func obstacle(_ mayBeUnused: (String) -> Bool) -> String? {
        teachingObstacle { [.unexpected, .otherModel].contains($0.kind) && ($0.tensor.map(mayBeUnused) ?? false) }
    }

    private func teachingObstacle(_ harmless: (ModelFinding) -> Bool) -> String? {
        guard architecture.isTeacher else {
            return "\(variant ?? architecture.family) is not a transformer that students are made of"
        }
        return flaw(harmless)
    }

    /// Why this model cannot be run; nil where it can.
    ///
    /// Tensors that it has no use for are in nobody's way.
    public var runningObstacle: String? { flaw { [.unexpected, .otherModel].contains($0.kind) } }

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
        var text = "\(architecture.family) \(kinds.map(\.rawValue).joined(separator: " "))\n"
        for tensor in tensors { text += "\(tensor.role.rawValue) \(tensor.layer ?? -1) \(tensor.shape ?? [])\n" }
        text += "epsilon \(epsilon ?? 0)\n"
        if let rotary { text += "rope \(rotary.text)\n" }
        text += traits.map { $0 + "\n" }.joined()
        return sha256(of: Array(text.utf8))
    }
}

extension ModelDescription {
    /// Whether a student's body is of another kind than Llama's, so that its config.json must name its teacher's family.
    package var needsBody: Bool {
        architecture.teacherFamily != nil
            && (architecture.body.norm != .rms || architecture.body.scalesEmbedding
                || architecture.body.mixerNorms != .before
                || architecture.body.feedForwardNorms != .before
                || architecture.layouts[0].names != TensorLayout.huggingFace.names
                || rotary?.parameters["partial_rotary_factor"] != nil || !traits.isEmpty)
    }

    /// What receptance is multiplied by in a student, whose heads have a scale of their own: s sqrt(N) where the teacher's scores are
    /// multiplied by s.
    ///
    /// - Parameter layer: of attention.
    /// - Returns: one where the scale is 1 / sqrt(N).
    package func queryFactor(ofLayer layer: Int) -> Double {
        guard let scale = layers[layer].attention?.scale, let size = dimensions[.headSize] else { return 1 }
        return scale * Double(size).squareRoot()
    }

    /// What its equations have that Llama's have not, a line each: windows, scales, caps, activations, rotations of single layers.
    package var traits: [String] {
        var traits: [String] = []
        if let logitSoftcap { traits.append("logit softcap \(logitSoftcap)") }
        for (index, layer) in layers.enumerated() {
            if let attention = layer.attention {
                if let scale = attention.scale { traits.append("layer \(index) scale \(scale)") }
                if let window = attention.window { traits.append("layer \(index) window \(window)") }
                if let softcap = attention.softcap { traits.append("layer \(index) softcap \(softcap)") }
            }
            if layer.attention != nil, let rotation = layer.rotation, rotation != rotary {
                traits.append("layer \(index) rope \(rotation.text)")
            }
            if case .gated(let activation) = layer.feedForward, activation != .silu {
                traits.append("layer \(index) \(activation.rawValue)")
            }
        }
        return traits
    }
}

extension LayerSpec {
    /// What the layer becomes in a student: itself, or time mixing in its place.
    fileprivate func student(
        isAttention: Bool, _ target: Architecture, _ timeMix: TimeMix7, turnsAttention: Bool, stretchesTimeMixing: Bool
    ) -> LayerSpec {
        var layer = self
        guard !isAttention else {
            if !turnsAttention { layer.rotation = nil }
            // The tensors tell which biases and norms it has.
            layer.attention?.inputBias = target.attention?.inputBias ?? .sometimes
            layer.attention?.outputBias = target.attention?.outputBias ?? .sometimes
            layer.attention?.headNorm = target.attention?.headNorm ?? .sometimes
            return layer
        }
        layer.mixer = .timeMix(timeMix)
        layer.rotation = timeMix.rotation(from: rotation, isStretched: stretchesTimeMixing)
        return layer
    }
}
