import CheckpointJSON

/// Weights that are not stored as numbers of a dtype.
public struct Quantisation: Sendable, Hashable {
    /// `gptq`, `awq`, `fp8`, `bitsandbytes`, or what config.json's `quant_method` says.
    public let method: String
    /// What shows it.
    public let evidence: String

    /// Why nothing is made of such weights, as a clause.
    public var obstacle: String {
        "its weights are quantised by \(method) (\(evidence)); take the model that they were made of"
    }

    /// Ends of names that stand in place of a weight, or beside it.
    static let marks = [
        ".qweight", ".qzeros", ".scales", ".g_idx", ".weight_scale_inv", ".weight_scale", ".input_scale", ".SCB",
        ".weight_format", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map",
        ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4",
    ]

    static func find(_ patterns: some Collection<NamePattern>, _ configuration: ModelConfiguration?) -> Quantisation? {
        if let method = configuration?.root["quantization_config"]?["quant_method"]?.string {
            return Quantisation(method: method.text, evidence: "config.json: quantization_config")
        }
        let methods = [
            ("gptq", [".g_idx"]), ("awq", [".qweight"]), ("fp8", [".weight_scale_inv", ".weight_scale"]),
            ("bitsandbytes", [".weight.absmax", ".SCB"]),
        ]
        for (method, ends) in methods {
            if let name = patterns.first(endingIn: ends) {
                return Quantisation(method: method, evidence: "tensors: \(name)")
            }
        }
        return nil
    }

    /// The pattern of the weight that a mark stands for or beside; nil where the name is none.
    static func weight(of pattern: NamePattern) -> NamePattern? {
        marks.lazy.compactMap { pattern.text.dropping(suffix: $0) }.first.map { NamePattern($0 + ".weight") }
    }
}
