import CheckpointFiles
import CheckpointJSON
import ModelFamilies

/// Reports a model's architecture, as JSON and as text.
struct ArchitectureReport {
    let recognition: ModelRecognition

    // MARK: JSON

    func write(to json: inout JSONWriter) {
        json.beginObject()
        switch recognition {
        case .model(let model): write(model, to: &json)
        case .other(let family, let variant, let evidence):
            writeNames(family, variant, [], evidence, isDescribed: false, to: &json)
        case .undecided(let candidates, let evidence):
            writeNames(nil, nil, candidates, evidence, isDescribed: false, to: &json)
        }
        json.end()
    }

    private func writeNames(
        _ family: String?, _ variant: String?, _ candidates: [String], _ evidence: [String], isDescribed: Bool,
        to json: inout JSONWriter
    ) {
        json.key("family")
        json.value(orNull: family)
        json.key("variant")
        json.value(orNull: variant)
        json.key("candidates")
        json.write(candidates)
        json.key("evidence")
        json.write(evidence)
        json.key("described")
        json.value(isDescribed)
    }

    private func write(_ model: ModelDescription, to json: inout JSONWriter) {
        writeNames(
            model.architecture.family, model.variant, [], model.evidence, isDescribed: true, to: &json)
        json.key("layout")
        json.value(orNull: model.layout?.name)
        json.key("layers")
        json.beginArray()
        for (index, layer) in model.layers.enumerated() {
            json.beginObject(onOneLine: true)
            json.key("index")
            json.value(index)
            json.key("kind")
            json.value(layer.kind.rawValue)
            if let window = layer.attention?.window {
                json.key("window")
                json.value(window)
            }
            if let scale = layer.attention?.scale {
                json.key("scale")
                json.value(scale)
            }
            if let softcap = layer.attention?.softcap {
                json.key("softcap")
                json.value(softcap)
            }
            if let rotation = layer.rotation, layer.kind.hasCache, rotation != model.rotary {
                json.key("rope_theta")
                json.value(rotation.theta)
            }
            json.end()
        }
        json.end()
        let sizes: [(StaticString, Dimension)] = [
            ("vocabulary", .vocabulary), ("width", .width), ("attention_width", .attentionWidth),
            ("feed_forward_width", .feedForwardWidth), ("heads", .heads), ("kv_heads", .keyValueHeads),
            ("head_size", .headSize),
        ]
        for (key, dimension) in sizes {
            json.key(key)
            json.value(orNull: model.dimensions[dimension])
        }
        json.key("ranks")
        json.beginObject(onOneLine: true)
        for dimension in Dimension.ranks {
            guard let rank = model.dimensions[dimension] else { continue }
            json.key(text: dimension.key)
            json.value(rank)
        }
        json.end()
        json.key("rope")
        if let rotary = model.rotary {
            json.beginObject(onOneLine: true)
            json.key("theta")
            json.value(rotary.theta)
            json.key("type")
            json.value(rotary.type.text)
            json.key("parameters")
            json.beginObject()
            for (name, value) in rotary.parameters.sorted(by: { $0.key < $1.key }) {
                json.key(text: name.text)
                json.value(value)
            }
            json.end()
            if rotary.isInterleaved {
                json.key("interleaved")
                json.value(true)
            }
            json.key("attention")
            json.value(model.attentionUsesRoPE)
            json.key("time_mixing")
            json.value(model.architecture.timeMix?.rotary == .teacher)
            json.end()
        } else {
            json.null()
        }
        json.key("norm")
        json.beginObject(onOneLine: true)
        json.key("kind")
        json.value(model.architecture.body.norm.rawValue)
        json.key("epsilon")
        json.value(model.epsilon)
        json.end()
        if let cap = model.logitSoftcap {
            json.key("logit_softcap")
            json.value(cap)
        }
        json.key("tied_head")
        json.value(model.hasTiedHead)
        json.key("quantisation")
        if let quantisation = model.quantisation {
            json.beginObject(onOneLine: true)
            json.key("method")
            json.value(quantisation.method)
            json.key("evidence")
            json.value(quantisation.evidence)
            json.end()
        } else {
            json.null()
        }
        json.key("kv_cache_bytes_per_token")
        json.value(orNull: model.cacheBytesPerToken)
        json.key("state_bytes")
        json.value(orNull: model.stateBytes)
        json.key("parameters")
        if let counts = model.parameterCounts {
            json.beginObject(onOneLine: true)
            for part in TensorRole.Part.allCases {
                json.key(text: part.rawValue)
                json.value(counts[part] ?? 0)
            }
            json.end()
        } else {
            json.null()
        }
        json.key("unknown")
        json.write(model.unknown)
        json.key("finding_count")
        json.value(model.findingCount)
        json.key("findings")
        json.beginArray()
        for finding in model.findings {
            json.beginObject(onOneLine: true)
            json.key("kind")
            json.value(finding.kind.rawValue)
            json.key("tensor")
            json.value(orNull: finding.tensor)
            json.key("message")
            json.value(finding.message)
            json.end()
        }
        json.end()
    }

    // MARK: Text

    func writeText(to output: inout ByteOutput) {
        switch recognition {
        case .model(let model): write(model, to: &output)
        case .other(let family, let variant, let evidence):
            let name = ([family] + (variant.map { [$0] } ?? [])).joined(separator: ", ").printable(limit: 200)
            output.write(
                "architecture: \(name), recognised by name only (\(evidence.joined(separator: "; ").printable(limit: 500)))\n"
            )
        case .undecided(let candidates, let evidence):
            let names = candidates.joined(separator: ", ").printable(limit: 200)
            output.write("architecture: one of \(names); the tensors do not show which\n")
            for sentence in evidence.prefix(5) { output.write("  \(sentence.printable(limit: 300))\n") }
        }
    }

    private func write(_ model: ModelDescription, to output: inout ByteOutput) {
        let names = [model.variant ?? model.architecture.family] + (model.layout.map { ["\($0.name) layout"] } ?? [])
        output.write(
            "architecture: \(names.joined(separator: ", ")) (\(model.evidence.joined(separator: "; ").printable(limit: 500)))\n"
        )
        output.write("  layers      \(model.kinds.strip)  \(model.kinds.counts)\n")
        func sizes(_ dimensions: [Dimension]) -> String {
            dimensions.compactMap { dimension in
                model.dimensions[dimension].map { "\(dimension.title) \(countText($0))" }
            }.joined(separator: ", ")
        }
        output.write(
            "  sizes       \(sizes([.width, .heads, .keyValueHeads, .headSize, .feedForwardWidth, .vocabulary]))\n")
        if !model.dimensions.ranks.isEmpty {
            output.write(
                "  ranks       \(model.dimensions.ranks.map { "\($0.name) \($0.size)" }.joined(separator: ", "))\n")
        }
        var constants = [
            model.architecture.body.norm.title
                + (model.epsilon.map { " \(valueText($0))" } ?? "")
        ]
        if let rotary = model.rotary {
            constants.append("RoPE theta \(rotary.summary)")
        }
        let attention = model.layers.filter(\.kind.hasCache)
        /// Appends the distinct values that attention layers have, each with its number of layers unless all share it.
        func append(_ name: String, _ value: (LayerSpec) -> String?) {
            let counts = attention.compactMap(value).reduce(into: [String: Int]()) { $0[$1, default: 0] += 1 }
            for (text, count) in counts.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
                constants.append("\(name) \(text)\(count == attention.count ? "" : " in \(countText(count, "layer"))")")
            }
        }
        append("RoPE theta") { $0.rotation == model.rotary ? nil : $0.rotation?.summary }
        append("window") { $0.attention?.window.map { countText($0) } }
        append("query scale") { $0.attention?.scale.map { valueText($0) } }
        append("score softcap") { $0.attention?.softcap.map { valueText($0) } }
        if let cap = model.logitSoftcap { constants.append("logit softcap \(valueText(cap))") }
        if model.hasTiedHead { constants.append("tied embeddings") }
        if let quantisation = model.quantisation {
            constants.append("quantised with \(quantisation.method.printable(limit: 40))")
        }
        output.write("  constants   \(constants.joined(separator: ", "))\n")
        if let cache = model.cacheBytesPerToken, let state = model.stateBytes {
            let windows = model.cacheBytesByWindow.reduce(0) {
                $0.adding(clamped: $1.key.multiplied(clamped: $1.value))
            }
            let bounded = windows > 0 ? "\(byteText(windows)) in windows, " : ""
            output.write(
                "  memory      \(byteText(cache)) of bf16 KV cache per token, \(bounded)\(byteText(state)) of fp32 state\n"
            )
        }
        if let counts = model.parameterCounts {
            let parts = TensorRole.Part.allCases.map { "\($0.rawValue) \(countText(counts[$0] ?? 0))" }
            output.write("  parameters  \(parts.joined(separator: ", "))\n")
        }
        if !model.unknown.isEmpty { output.write("  unknown     \(model.unknown.joined(separator: ", "))\n") }
        for finding in model.findings.prefix(20) {
            output.write("  \(finding.kind.rawValue): \(finding.message.printable(limit: 400))\n")
        }
        if model.findingCount > 20 {
            output.write("  … \(countText(model.findingCount - 20)) more findings (--json has them)\n")
        }
    }
}

extension RotaryEmbedding {
    /// Theta, scaling, the rotated part of each head, and the pairing.
    fileprivate var summary: String {
        var words = [valueText(theta)]
        if type != "default" { words.append(type.text.printable(limit: 40)) }
        if let factor = parameters["factor"] { words.append("× \(valueText(factor))") }
        if isInterleaved { words.append("interleaved") }
        if let part = parameters["partial_rotary_factor"] { words.append("over \(valueText(part)) of each head") }
        return words.joined(separator: " ")
    }
}

extension DecoderBody.Norm {
    fileprivate var title: String {
        switch self {
        case .rms: "RMSNorm"
        case .rmsOfOnePlus: "RMSNorm (1 + w)"
        case .layer: "LayerNorm"
        }
    }
}

extension Dimensions {
    /// The known ranks of low-rank parts, with the names of the parts.
    var ranks: [(name: String, size: Int)] {
        Dimension.ranks.compactMap { dimension in
            self[dimension].map { (dimension.title.replacing(" rank", with: ""), $0) }
        }
    }
}

extension [LayerKind] {
    /// One letter per layer: `RRRG`.
    var strip: String { String(map(\.letter)) }

    /// The number of layers of each kind: `38 rwkv7, 6 gqa`.
    var counts: String {
        LayerKind.allCases.compactMap { kind in
            let count = self.count { $0 == kind }
            return count > 0 ? "\(count) \(kind.rawValue)" : nil
        }.joined(separator: ", ")
    }
}

/// Reports an adapter, as JSON and as text.
struct AdapterReport {
    let adapter: Adapter

    func write(to json: inout JSONWriter) {
        json.beginObject(onOneLine: true)
        json.key("kind")
        json.value(adapter.kind.rawValue)
        json.key("writer")
        json.value(adapter.writer.rawValue)
        json.key("ranks")
        json.write(adapter.ranks)
        json.key("targets")
        json.write(adapter.targets)
        json.key("module_count")
        json.value(adapter.moduleCount)
        json.key("alpha")
        json.value(adapter.alpha)
        json.end()
    }

    func writeText(to output: inout ByteOutput) {
        let ranks = adapter.ranks.prefix(8).map(countText).joined(separator: ", ")
        let targets = adapter.targets.prefix(20).joined(separator: ", ").printable(limit: 400)
        output.write(
            "adapter: \(adapter.kind.rawValue) from \(adapter.writer.rawValue), rank \(ranks)\(adapter.alpha.map { ", alpha \(valueText($0))" } ?? ""), \(countText(adapter.moduleCount, "module")): \(targets)\n"
        )
    }
}
