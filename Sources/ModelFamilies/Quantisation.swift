import CheckpointJSON

/// A quantisation of weights, which is recognised but not supported.
public struct Quantisation: Sendable, Hashable {
    /// `gptq`, `awq`, `fp8`, `bitsandbytes`, config.json's `quant_method`, or the dtype of the weights.
    public let method: String
    /// The tensor or key that shows the quantisation, as a clause.
    public let evidence: String

    /// Why such weights cannot be used, as a clause.
    public var conversionBlocker: String {
        "its weights are quantised by \(method) (\(evidence)); use the unquantised model"
    }

    /// Name suffixes of tensors that replace or accompany a quantised weight.
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

    /// Returns the pattern of the weight that a tensor with one of these suffixes replaces or accompanies; nil for
    /// other tensors.
    static func weight(of pattern: NamePattern) -> NamePattern? {
        marks.lazy.compactMap { pattern.text.dropping(suffix: $0) }.first.map { NamePattern($0 + ".weight") }
    }
}
