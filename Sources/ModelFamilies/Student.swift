import Bytes
import CheckpointFiles

extension ModelDescription {
    /// Returns the student that results from converting this teacher's attention to a target's time mixing.
    ///
    /// - Parameters:
    ///   - target: an architecture with a ``StudentRecipe``.
    ///   - attention: the indices of the layers that keep softmax attention.
    ///   - ranks: ranks that override those of the recipe.
    ///   - attentionUsesRoPE: whether the attention layers use RoPE.
    ///   - firstValues: the rule for which layer provides the first values and keys.
    /// - Returns: the student, or nil if the target has no recipe or no time mixing, or if the attention width is not
    ///   known.
    public func student(
        _ target: Architecture, attention: Set<Int>, ranks: [ModelDimension: Int] = [:], attentionUsesRoPE: Bool,
        firstValues: FirstValuesLayer = .firstTimeMixing
    ) -> ModelDescription? {
        var target = target.over(architecture)
        guard let recipe = target.conversion, var timeMix = target.timeMix,
            let width = dimensions[recipe.ranksFollow]
        else { return nil }
        recipe.refine(&timeMix, self)
        target.timeMix = timeMix
        var sizes = dimensions
        for (dimension, rank) in recipe.ranks { sizes[dimension] = ranks[dimension] ?? rank(width: width) }
        if case .rwkv6 = timeMix { sizes[.shiftCount] = TimeMix6.shiftCount }
        if let size = recipe.headSize, let own = sizes[.width] {
            guard own % size == 0 else { return nil }
            for dimension in [ModelDimension.attentionWidth, .keyValueWidth] { sizes[dimension] = own }
            for dimension in [ModelDimension.heads, .keyValueHeads] { sizes[dimension] = own / size }
            sizes[.headSize] = size
        }
        for (dimension, other) in target.impliedSizes { sizes[dimension] = sizes[other] }
        let present = Set(tensors.map(\.role))
        var optional = optionalRoles.union(present).intersection([
            .queryBias, .keyBias, .valueBias, .outputBias, .queryNorm, .keyNorm,
        ])
        // A student has the optional tensors that correspond to the teacher's, and those that are initialised.
        let ownOptional = timeMix.roles.optional
        optional.formUnion(ownOptional.intersection(present.compactMap(\.counterpart)))
        optional.formUnion(ownOptional.intersection(recipe.initialisers.keys))
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

    /// Returns this student with its teacher's attention in the given layers and time mixing in all other layers.
    ///
    /// - Parameters:
    ///   - teacher: the model from which the student was converted.
    ///   - attention: the indices of the layers that use softmax attention.
    ///   - attentionUsesRoPE: whether the attention layers use RoPE.
    ///   - firstValues: the rule for which layer provides the first values and keys.
    /// - Returns: the student with these layers.
    public func restored(
        from teacher: ModelDescription, attention: Set<Int>, attentionUsesRoPE: Bool, firstValues: FirstValuesLayer
    ) -> ModelDescription {
        var student = completed(by: teacher)
        // Attention layers need the teacher's settings, such as a sliding window, which a student without attention
        // layers lacks.
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

    /// Returns this student with the biases and head norms of its teacher's attention.
    ///
    /// A student that was read from a partial checkpoint lacks them.
    public func completed(by teacher: ModelDescription) -> ModelDescription {
        var student = self
        let present = Set(teacher.tensors.map(\.role))
        student.optionalRoles.formUnion(present.intersection(architecture.attention?.roles.optional ?? []))
        return student
    }

    /// Returns this model with the tensors that a layout stores.
    ///
    /// A layout can store the head separately, can omit unused residuals, and can be that of a class with other
    /// constants.
    ///
    /// - Parameters:
    ///   - layout: the layout.
    ///   - hasTiedHead: whether the embeddings are tied, if the layout allows tied embeddings.
    /// - Returns: the model with the tensors that the layout stores.
    public func stored(in layout: TensorLayout, hasTiedHead: Bool) -> ModelDescription {
        var model = self
        model.layout = layout
        let others = ArchitectureRegistry.architectures(like: architecture)
        model.architecture = others.first { $0.layouts.contains { $0.name == layout.name } } ?? architecture
        model.hasTiedHead = hasTiedHead && !layout.alwaysStoresHead
        if !layout.mayHoldUnusedResiduals { model.storesUnusedResiduals = false }
        return model
    }

    /// The reason why no student of this model can be planned, as a clause, or nil if one can be planned.
    ///
    /// Tensors outside the text model do not prevent planning, although they can prevent the conversion.
    public var conversionBlocker: String? { teacherBlocker { $0.kind == .otherModel } }

    /// Returns the reason why this model cannot be converted to a student, or nil if it can be converted.
    ///
    /// - Parameter mayBeUnused: a closure that returns whether a tensor with a given name can be left out if it is not
    ///   part of the model.
    /// - Returns: the reason as a clause, or nil.
    public func conversionBlocker(_ mayBeUnused: (String) -> Bool) -> String? {
        teacherBlocker { [.unexpected, .otherModel].contains($0.kind) && ($0.tensor.map(mayBeUnused) ?? false) }
    }

    private func teacherBlocker(_ harmless: (ModelFinding) -> Bool) -> String? {
        guard architecture.isTeacher else {
            return "\(variant ?? architecture.family) is not supported as a teacher"
        }
        return blocker(harmless)
    }

    /// The reason why this model cannot be run, as a clause, or nil if it can be run.
    ///
    /// Tensors that are not part of the model are ignored.
    public var runBlocker: String? { blocker { [.unexpected, .otherModel].contains($0.kind) } }

    /// Returns the reason why the model cannot be used, or nil if it can be.
    ///
    /// Findings for which `harmless` returns true are ignored.
    private func blocker(_ harmless: (ModelFinding) -> Bool) -> String? {
        let findings = findings.filter { !harmless($0) }
        if let quantisation {
            return quantisation.conversionBlocker
        }
        if let finding = findings.first {
            let others = findings.count - 1
            return finding.message
                + (others > 0 ? ", and \(others) other problem\(others > 1 ? "s" : "")" : "")
        }
        if !unknown.isEmpty {
            return
                "\(unknown.joined(separator: ", ")) \(unknown.count == 1 ? "is" : "are") not known: pass a complete config.json with --config"
        }
        return nil
    }

    /// A SHA-256 hash that identifies the model's structure, as 64 hexadecimal digits.
    ///
    /// The hash covers the family, the kinds of layers, the roles and shapes of tensors, and the constants of the
    /// equations. It does not depend on tensor names, files or dtypes.
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
    /// Whether this student's body differs from Llama's.
    ///
    /// If it does, the student's config.json must name the teacher's family.
    package var hasNonLlamaBody: Bool {
        architecture.teacherFamily != nil
            && (architecture.body.norm != .rms || architecture.body.scalesEmbedding
                || architecture.body.mixerNorms != .before
                || architecture.body.feedForwardNorms != .before
                || architecture.layouts[0].bodyNames != TensorLayout.huggingFace.bodyNames
                || rotary?.parameters["partial_rotary_factor"] != nil || !differencesFromLlama.isEmpty)
    }

    /// Returns the factor that the conversion folds into a student's receptance to reproduce this teacher's query
    /// scale.
    ///
    /// Time mixing itself scales by 1 / sqrt(N), so a query scale of s requires the factor s sqrt(N).
    ///
    /// - Parameter layer: the index of an attention layer.
    /// - Returns: the factor, which is 1 if the query scale is 1 / sqrt(N) or if the head size is not known.
    package func receptanceFactor(ofLayer layer: Int) -> Double {
        guard let scale = layers[layer].attention?.scale, let size = dimensions[.headSize] else { return 1 }
        return scale * Double(size).squareRoot()
    }

    /// The differences between the model's equations and Llama's, one per line.
    ///
    /// These are sliding windows, query scales, softcaps, activations, and RoPE parameters of individual layers.
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
    /// Returns this teacher's layer as part of a student, either with the same attention or with time mixing instead.
    fileprivate func student(
        isAttention: Bool, _ target: Architecture, _ timeMix: TimeMixSpec, attentionUsesRoPE: Bool,
        scalesTimeMixingRoPE: Bool
    ) -> LayerSpec {
        var layer = self
        guard !isAttention else {
            if !attentionUsesRoPE { layer.rotation = nil }
            // In a student, the checkpoint's tensors determine which biases and head norms the layer has.
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
