import Bytes
import CheckpointFiles
import CheckpointJSON
import ModelFamilies

/// A report on a model's architecture, as JSON or as text.
struct ArchitectureReport: JSONWritable {
    let recognition: ModelRecognition

    // MARK: JSON

    package func write(to json: inout JSONWriter) {
        json.object { json in
            switch recognition {
            case .model(let model): write(model, to: &json)
            case .other(let family, let variant, let evidence):
                writeNames(family, variant, [], evidence, isDescribed: false, to: &json)
            case .undecided(let candidates, let evidence):
                writeNames(nil, nil, candidates, evidence, isDescribed: false, to: &json)
            }
        }
    }

    private func writeNames(
        _ family: String?, _ variant: String?, _ candidates: [String], _ evidence: [String], isDescribed: Bool,
        to json: inout JSONWriter
    ) {
        json.member("family", family)
        json.member("variant", variant)
        json.member("candidates", candidates)
        json.member("evidence", evidence)
        json.member("described", isDescribed)
    }

    private func write(_ model: ModelDescription, to json: inout JSONWriter) {
        writeNames(
            model.architecture.family, model.variant, [], model.evidence, isDescribed: true, to: &json)
        json.member("layout", model.layout?.name)
        json.array("layers", of: model.layers.enumerated()) { json, layer in
            json.member("index", layer.offset)
            let layer = layer.element
            json.member("kind", layer.kind.rawValue)
            if let window = layer.attention?.window { json.member("window", window) }
            if let scale = layer.attention?.scale { json.member("scale", scale) }
            if let softcap = layer.attention?.softcap { json.member("softcap", softcap) }
            if let rotation = layer.rotation, layer.kind.hasCache, rotation != model.rotary {
                json.member("rope_theta", rotation.theta)
            }
        }
        json.member("vocabulary", model.dimensions[.vocabulary])
        json.member("width", model.dimensions[.width])
        json.member("attention_width", model.dimensions[.attentionWidth])
        json.member("feed_forward_width", model.dimensions[.feedForwardWidth])
        json.member("heads", model.dimensions[.heads])
        json.member("kv_heads", model.dimensions[.keyValueHeads])
        json.member("head_size", model.dimensions[.headSize])
        json.object("ranks", onOneLine: true) { json in
            for (dimension, rank) in model.ranks { json.member(text: dimension.key, rank) }
        }
        json.object("rope", of: model.rotary) { json, rotary in
            json.member("theta", rotary.theta)
            json.member("type", rotary.type)
            json.object("parameters") { $0.members(rotary.parameters) }
            if rotary.isInterleaved { json.member("interleaved", true) }
            json.member("attention", model.attentionUsesRoPE)
            json.member("time_mixing", model.architecture.timeMix?.usesRoPE == true)
        }
        json.object("norm", onOneLine: true) { json in
            json.member("kind", model.architecture.body.norm.rawValue)
            json.member("epsilon", model.epsilon)
        }
        if let cap = model.logitSoftcap { json.member("logit_softcap", cap) }
        json.member("tied_head", model.hasTiedHead)
        json.object("quantisation", of: model.quantisation) { json, quantisation in
            json.member("method", quantisation.method)
            json.member("evidence", quantisation.evidence)
        }
        json.member("kv_cache_bytes_per_token", model.cacheBytesPerToken)
        json.member("state_bytes", model.stateBytes)
        json.object("parameters", of: model.parameterCounts) { json, counts in
            for part in TensorRole.Part.allCases { json.member(text: part.rawValue, counts[part] ?? 0) }
        }
        json.member("unknown", model.unknown)
        json.member("finding_count", model.findingCount)
        json.array("findings", of: model.findings) { json, finding in
            json.member("kind", finding.kind.rawValue)
            json.member("tensor", finding.tensor)
            json.member("message", finding.message)
        }
    }

    // MARK: Text

    func writeText(to output: inout ByteOutput) {
        switch recognition {
        case .model(let model): write(model, to: &output)
        case .other(let family, let variant, let evidence):
            let name = ([family] + (variant.map { [$0] } ?? [])).joined(separator: ", ").printable(limit: 200)
            output.write(
                "architecture: \(name), recognised but not supported (\(evidence.joined(separator: "; ").printable(limit: 500)))\n"
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
        func sizes(_ dimensions: [ModelDimension]) -> String {
            dimensions.compactMap { dimension in
                model.dimensions[dimension].map { "\(dimension.title) \(countText($0))" }
            }.joined(separator: ", ")
        }
        output.write(
            "  sizes       \(sizes([.width, .heads, .keyValueHeads, .headSize, .feedForwardWidth, .vocabulary]))\n")
        let ranks = model.ranks.map { "\($0.dimension.title.replacing(" rank", with: "")) \($0.size)" }
        if !ranks.isEmpty {
            output.write(
                "  ranks       \(ranks.joined(separator: ", "))\n")
        }
        var constants = [
            model.architecture.body.norm.title
                + (model.epsilon.map { " \(valueText($0))" } ?? "")
        ]
        if let rotary = model.rotary, model.layers.contains(where: { $0.rotation != nil }) {
            constants.append("RoPE theta \(rotary.summary)")
        }
        let attention = model.layers.filter(\.kind.hasCache)
        /// Appends the distinct values of a property of the attention layers.
        ///
        /// If only some attention layers have a value, the number of those layers follows it.
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
            output.write("  … \(countText(model.findingCount - 20)) more findings (use --json to list them)\n")
        }
    }
}

extension RotaryEmbedding {
    /// A summary of theta, the scaling, the pairing of channels, and the rotated fraction of each head.
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

extension ModelDescription {
    /// The known ranks of the low-rank parts that the model's time mixing has.
    fileprivate var ranks: [(dimension: ModelDimension, size: Int)] {
        let own = architecture.timeMix?.ranks ?? []
        return ModelDimension.ranks.compactMap { dimension in
            own.contains(dimension) ? dimensions[dimension].map { (dimension, $0) } : nil
        }
    }
}

extension [LayerKind] {
    /// The letters of the layers' kinds, such as `RRRG`.
    var strip: String { String(map(\.letter)) }

    /// The number of layers of each kind, such as `38 rwkv7, 6 gqa`.
    var counts: String {
        LayerKind.allCases.compactMap { kind in
            let count = self.count { $0 == kind }
            return count > 0 ? "\(count) \(kind.rawValue)" : nil
        }.joined(separator: ", ")
    }
}

/// A report on an adapter, as JSON or as text.
struct AdapterReport: JSONWritable {
    let adapter: Adapter

    package func write(to json: inout JSONWriter) {
        json.object(onOneLine: true) { json in
            json.member("kind", adapter.kind.rawValue)
            json.member("writer", adapter.writer.rawValue)
            json.member("ranks", adapter.ranks)
            json.member("targets", adapter.targets)
            json.member("module_count", adapter.moduleCount)
            json.member("alpha", adapter.alpha)
        }
    }

    func writeText(to output: inout ByteOutput) {
        let ranks = adapter.ranks.prefix(8).map(countText).joined(separator: ", ")
        let targets = adapter.targets.prefix(20).joined(separator: ", ").printable(limit: 400)
        output.write(
            "adapter: \(adapter.kind.rawValue) from \(adapter.writer.rawValue), rank \(ranks)\(adapter.alpha.map { ", alpha \(valueText($0))" } ?? ""), \(countText(adapter.moduleCount, "module")): \(targets)\n"
        )
    }
}
