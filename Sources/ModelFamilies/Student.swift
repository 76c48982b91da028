import CheckpointFiles
import CheckpointJSON

extension ModelDescription {
    /// Returns the student that results from converting the layers outside `attention` to a target's time mixing.
    ///
    /// - Parameters:
    ///   - target: an architecture with a ``StudentRecipe``.
    ///   - attention: indices of the layers that stay attention.
    ///   - ranks: ranks that replace the recipe's.
    ///   - attentionUsesRoPE: whether those layers use RoPE.
    ///   - firstValues: which layer provides the first values and keys.
    /// - Returns: the student; nil if the target has no recipe, or the attention width is not known.
    public func student(
        _ target: Architecture, attention: Set<Int>, ranks: [Dimension: Int] = [:], attentionUsesRoPE: Bool,
        firstValues: FirstValues = .firstTimeMixing
    ) -> ModelDescription? {
        let target = target.over(architecture)
        guard let recipe = target.conversion, let timeMix = target.timeMix,
            let width = dimensions[.attentionWidth]
        else { return nil }
        var sizes = dimensions
        for (dimension, rank) in recipe.ranks { sizes[dimension] = ranks[dimension] ?? rank(attentionWidth: width) }
        for (dimension, other) in target.impliedSizes { sizes[dimension] = sizes[other] }
        let present = Set(tensors.map(\.role))
        var optional = optionalRoles.union(present).intersection([
            .queryBias, .keyBias, .valueBias, .outputBias, .queryNorm, .keyNorm,
        ])
        if present.contains(.queryBias) {
            optional.formUnion([.receptanceBias, .timeMixKeyBias, .timeMixValueBias])
        }
        if present.contains(.outputBias) { optional.insert(.timeMixOutputBias) }
        // Norms that the teacher does not have are initialised to one.
        if timeMix.headNorm != .never { optional.formUnion([.receptanceNorm, .timeMixKeyNorm]) }
        return ModelDescription(
            architecture: target, evidence: [], layout: nil, dimensions: sizes,
            layers: layers.enumerated().map {
                $1.student(
                    isAttention: attention.contains($0), target, timeMix, attentionUsesRoPE: attentionUsesRoPE,
                    scalesTimeMixingRoPE: scalesTimeMixingRoPE)
            }, epsilon: epsilon, rotary: rotary, attentionUsesRoPE: attentionUsesRoPE, firstValues: firstValues,
            scalesTimeMixingRoPE: scalesTimeMixingRoPE, hasTiedHead: hasTiedHead, optionalRoles: optional,
            storesUnusedResiduals: timeMix.storesUnusedResiduals, logitSoftcap: logitSoftcap, bindings: [:],
            quantisation: nil, findings: [], findingCount: 0, unknown: unknown)
    }

    /// Returns this student with its teacher's attention in the given layers, and time mixing in all others.
    ///
    /// - Parameters:
    ///   - teacher: the model that was converted to the student.
    ///   - attention: indices of the layers that get attention.
    ///   - attentionUsesRoPE: whether those layers use RoPE.
    ///   - firstValues: which layer provides the first values and keys.
    /// - Returns: the student with these layers.
    public func restored(
        from teacher: ModelDescription, attention: Set<Int>, attentionUsesRoPE: Bool, firstValues: FirstValues
    ) -> ModelDescription {
        var student = completed(by: teacher)
        // Attention layers bring settings, such as a window, that a student without attention layers does not have.
        student.architecture = architecture.over(teacher.architecture)
        if let timeMix = architecture.timeMix {
            student.layers = teacher.layers.enumerated().map {
                $1.student(
                    isAttention: attention.contains($0), architecture, timeMix, attentionUsesRoPE: attentionUsesRoPE,
                    scalesTimeMixingRoPE: scalesTimeMixingRoPE)
            }
        }
        student.attentionUsesRoPE = attentionUsesRoPE
        student.firstValues = firstValues
        if let first = student.layerOfFirstValues, let timeMix = architecture.timeMix {
            student.storesUnusedResiduals = timeMix.residualRoles.allSatisfy {
                bindings[TensorPlace(role: $0, layer: first)] != nil
            }
        }
        return student
    }

    /// Returns this student, read from a partial checkpoint, with the biases and head norms of its teacher's attention.
    public func completed(by teacher: ModelDescription) -> ModelDescription {
        var student = self
        let present = Set(teacher.tensors.map(\.role))
        student.optionalRoles.formUnion(present.intersection(architecture.attention?.roles.optional ?? []))
        return student
    }

    /// Returns this model as a layout stores it: the head may be stored separately, and unused residuals left out.
    ///
    /// - Parameters:
    ///   - layout: the layout.
    ///   - hasTiedHead: whether embeddings are tied, if the layout allows that.
    /// - Returns: the model with the tensors that the layout stores.
    public func stored(in layout: TensorLayout, hasTiedHead: Bool) -> ModelDescription {
        var model = self
        model.hasTiedHead = hasTiedHead && !layout.alwaysStoresHead
        if !layout.mayHoldUnusedResiduals { model.storesUnusedResiduals = false }
        return model
    }

    /// Why no student of this model can be planned, as a clause; nil if one can.
    ///
    /// Tensors outside the text model are ignored here; only the conversion itself refuses them.
    public var conversionBlocker: String? { teacherBlocker { $0.kind == .otherModel } }

    /// Returns why no student can be made from this model; nil if one can.
    ///
    /// - Parameter mayBeUnused: whether a tensor with this name may be left out if it is not part of the model.
    /// - Returns: the reason, as a clause.
    public func conversionBlocker(_ mayBeUnused: (String) -> Bool) -> String? {
        teacherBlocker { [.unexpected, .otherModel].contains($0.kind) && ($0.tensor.map(mayBeUnused) ?? false) }
    }

    private func teacherBlocker(_ harmless: (ModelFinding) -> Bool) -> String? {
        guard architecture.isTeacher else {
            return "\(variant ?? architecture.family) is not supported as a teacher"
        }
        return blocker(harmless)
    }

    /// Why this model cannot be run, as a clause; nil if it can.
    ///
    /// Tensors that are not part of the model are ignored.
    public var runBlocker: String? { blocker { [.unexpected, .otherModel].contains($0.kind) } }

    /// Returns why the model cannot be used at all, apart from findings that are `harmless`; nil if it can.
    private func blocker(_ harmless: (ModelFinding) -> Bool) -> String? {
        let findings = findings.filter { !harmless($0) }
        if let quantisation {
            return quantisation.conversionBlocker
        }
        if let finding = findings.first {
            return finding.message + (findings.count > 1 ? ", and \(findings.count - 1) more" : "")
        }
        if !unknown.isEmpty {
            return
                "\(unknown.joined(separator: ", ")) \(unknown.count == 1 ? "is" : "are") not known: pass a complete config.json with --config"
        }
        return nil
    }

    /// SHA-256 (64 hex digits) of the family, layer kinds, tensor shapes and constants, not of names, files or dtypes.
    public var identity: String {
        var text = "\(architecture.family) \(kinds.map(\.rawValue).joined(separator: " "))\n"
        for tensor in tensors { text += "\(tensor.role.rawValue) \(tensor.layer ?? -1) \(tensor.shape ?? [])\n" }
        text += "epsilon \(epsilon ?? 0)\n"
        if let rotary { text += "rope \(rotary.text)\n" }
        text += differencesFromLlama.map { $0 + "\n" }.joined()
        return sha256(of: Array(text.utf8))
    }
}

extension ModelDescription {
    /// Whether a student's body differs from Llama's, so that its config.json must name its teacher's family.
    package var hasNonLlamaBody: Bool {
        architecture.teacherFamily != nil
            && (architecture.body.norm != .rms || architecture.body.scalesEmbedding
                || architecture.body.mixerNorms != .before
                || architecture.body.feedForwardNorms != .before
                || architecture.layouts[0].names != TensorLayout.huggingFace.names
                || rotary?.parameters["partial_rotary_factor"] != nil || !differencesFromLlama.isEmpty)
    }

    /// Returns the factor on a student's receptance that replaces this teacher's query scale s: s sqrt(N), because time
    /// mixing itself scales by 1 / sqrt(N).
    ///
    /// - Parameter layer: the index of an attention layer.
    /// - Returns: the factor; 1 if the query scale is 1 / sqrt(N) or the head size is not known.
    package func receptanceFactor(ofLayer layer: Int) -> Double {
        guard let scale = layers[layer].attention?.scale, let size = dimensions[.headSize] else { return 1 }
        return scale * Double(size).squareRoot()
    }

    /// How the equations differ from Llama's, one line each: windows, scales, softcaps, activations, RoPE of layers.
    package var differencesFromLlama: [String] {
        var differencesFromLlama: [String] = []
        if let logitSoftcap { differencesFromLlama.append("logit softcap \(logitSoftcap)") }
        for (index, layer) in layers.enumerated() {
            if let attention = layer.attention {
                if let scale = attention.scale { differencesFromLlama.append("layer \(index) scale \(scale)") }
                if let window = attention.window { differencesFromLlama.append("layer \(index) window \(window)") }
                if let softcap = attention.softcap { differencesFromLlama.append("layer \(index) softcap \(softcap)") }
            }
            if layer.attention != nil, let rotation = layer.rotation, rotation != rotary {
                differencesFromLlama.append("layer \(index) rope \(rotation.text)")
            }
            if case .gated(let activation) = layer.feedForward, activation != .silu {
                differencesFromLlama.append("layer \(index) \(activation.rawValue)")
            }
        }
        return differencesFromLlama
    }
}

extension LayerSpec {
    /// Returns the layer as a student has it: with the same attention, or with time mixing in its place.
    fileprivate func student(
        isAttention: Bool, _ target: Architecture, _ timeMix: TimeMix7, attentionUsesRoPE: Bool,
        scalesTimeMixingRoPE: Bool
    ) -> LayerSpec {
        var layer = self
        guard !isAttention else {
            if !attentionUsesRoPE { layer.rotation = nil }
            // In a student, the tensors show which biases and norms the layer has.
            layer.attention?.inputBias = target.attention?.inputBias ?? .sometimes
            layer.attention?.outputBias = target.attention?.outputBias ?? .sometimes
            layer.attention?.headNorm = target.attention?.headNorm ?? .sometimes
            return layer
        }
        layer.mixer = .timeMix(timeMix)
        layer.rotation = timeMix.rotation(from: rotation, isScaled: scalesTimeMixingRoPE)
        return layer
    }
}
