import Bytes
import CheckpointJSON

/// The quantisation of a model's weights, which is recognised but not supported.
public struct Quantisation: Sendable, Hashable {
    /// The method: `gptq`, `awq`, `fp8`, `bitsandbytes`, another `quant_method` from config.json, or the dtype of the
    /// weights.
    public let method: String
    /// A clause that names the tensor or config.json key from which the quantisation was recognised.
    public let evidence: String

    /// The reason why quantised weights cannot be used, as a clause.
    public var conversionBlocker: String {
        "its weights are quantised with \(method) (\(evidence)); use the unquantised model"
    }

    /// The name suffixes of tensors that replace or accompany a quantised weight.
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

    /// Returns the pattern of the weight that a tensor replaces or accompanies.
    ///
    /// Returns nil if the tensor's name has none of the suffixes in `marks`.
    static func weight(of pattern: NamePattern) -> NamePattern? {
        marks.lazy.compactMap { pattern.text.dropping(suffix: $0) }.first.map { NamePattern($0 + ".weight") }
    }
}
