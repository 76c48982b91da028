import Bytes
import CheckpointJSON
import CheckpointFiles

extension Architecture {
    /// Qwen2 and Qwen2.5, which always have biases on queries, keys and values.
    ///
    /// config.json does not mention these biases. See transformers, models/qwen2.
    public static let qwen2 = Architecture(
        family: "qwen2",
        configurationNames: ["qwen2"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu),
            refine: qwenWindows,
            keys: qwenWindowKeys,
            assumedEpsilon: 1e-6,
            assumedTheta: 10000),
        attention: Attention(inputBias: .always),
        layouts: [.huggingFace],
        isTeacher: true)

    static let qwenWindowKeys: Set<String> = [
        "use_sliding_window", "sliding_window", "max_window_layers", "layer_types",
    ]

    /// Sets the sliding window of a layer if `use_sliding_window` is true.
    ///
    /// The layers with a window are those that `layer_types` lists. Without that key, they are the layers from index
    /// `max_window_layers` onwards.
    @Sendable
    static func qwenWindows(
        _ layer: inout LayerSpec, _ index: Int, _ configuration: ModelConfiguration
    ) throws(CheckpointError) {
        let isOn = try configuration.flag("use_sliding_window") == true && configuration.root["sliding_window"] != .null
        let first = try configuration.count("max_window_layers", assumed: 28)
        let isWindowed = try configuration.isWindowed(layer: index, otherwise: isOn && index >= first)
        guard isOn || !isWindowed else {
            throw configuration.malformed(
                "layer_types", expected: "full_attention in all layers, as sliding windows are off")
        }
        layer.attention?.window = isWindowed ? try configuration.window(assumed: 4096) : nil
    }
}
