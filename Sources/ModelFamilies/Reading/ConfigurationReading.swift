import Bytes
import CheckpointFiles

extension ModelReading {
    mutating func readConfiguration(hasTensors: Bool) throws(CheckpointError) {
        epsilon = architecture.body.fixedEpsilon
        if let configuration {
            epsilon =
                try configuration.positive(architecture.body.epsilonKey) ?? epsilon ?? architecture.body.assumedEpsilon
            rotary = try RotaryEmbedding(configuration, of: architecture.body)
            if let softcap = architecture.body.logitSoftcap {
                logitSoftcap = try configuration.cap(softcap.key, assumed: softcap.assumed)
            }
            let firsts = ModelDescription.FirstValuesLayer.allCases.map(\.rawValue)
            let first = try configuration.choice("first_values", of: firsts)
            firstValues = first.flatMap { ModelDescription.FirstValuesLayer($0) } ?? firstValues
            scalesTimeMixingRoPE = try configuration.choice("rwkv_rope_scaling", of: ["teacher", "none"]) != "none"
        }
        quantisation = quantisation ?? Quantisation.find([NamePattern](), ownConfiguration)
        attentionUsesRoPE =
            try configuration?.flag("nope_in_transformer").map { !$0 } ?? architecture.conversion?.attentionUsesRoPE
            ?? true
        // The teacher's tie_word_embeddings does not apply to its student. A missing head means that the embeddings are
        // tied only if the checkpoint also has the other tensors outside the layers.
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
        for dimension in ModelDimension.allCases {
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
            // A window that is at least as long as the context has no effect.
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
                        "\(path) has \(list.count) numbers in \(key), but a head size of \(size) needs \(turned / 2)")
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

    /// Applies the configuration's choice of attention layers, such as the list `transformer_layers`.
    mutating func readKinds(
        _ configuration: ModelConfiguration, hasTensors: Bool
    ) throws(CheckpointError) {
        // A partial checkpoint can contain fewer layers than its configuration states.
        let count = max(layers.count, try configuration.size("num_hidden_layers") ?? 0)
        guard architecture.timeMix != nil, architecture.attention != nil,
            let attention = try attentionLayers(configuration, count: count)
        else { return }
        for layer in layers.indices {
            let kind = architecture.kinds.first { $0.hasCache == attention.contains(layer) } ?? layers[layer].kind
            if !hasTensors || undecidedLayers.contains(layer) {
                layers[layer] = self.layer(kind)
            } else if layers[layer].kind != kind {
                add(
                    .contradiction, nil,
                    "\(configuration.path) makes layer \(layer) \(kind.hasCache ? "attention" : "time mixing"), but its tensors are those of \(layers[layer].kind.rawValue)"
                )
            }
        }
    }

    private func attentionLayers(
        _ configuration: ModelConfiguration, count: Int
    ) throws(CheckpointError) -> Set<Int>? {
        if let layers = try configuration.layers("transformer_layers", count: count) { return layers }
        return try architecture.variableStages?.attentionLayers(configuration, count)
    }

    /// Marks attention layers as multi-head instead of grouped-query if keys are as wide as queries.
    mutating func decideAttention() {
        if let all = dimensions[.attentionWidth], all == dimensions[.keyValueWidth] {
            for index in layers.indices where layers[index].kind.hasCache {
                layers[index].attention?.isMultiHead = true
            }
        }
    }

    /// Returns the rotary embedding that a layer's mixer applies, or nil if the mixer does not use RoPE.
    ///
    /// The result is derived from `layer.rotation`, which must be the rotary embedding of attention.
    func rotation(of layer: LayerSpec) -> RotaryEmbedding? {
        guard let timeMix = layer.timeMix else { return attentionUsesRoPE ? layer.rotation : nil }
        return timeMix.rotation(from: layer.rotation, isScaled: scalesTimeMixingRoPE)
    }
}
