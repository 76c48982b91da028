import Bytes
import CheckpointJSON
import CheckpointFiles

extension Architecture {
    /// Mistral and Ministral, which have the same tensors as Llama.
    ///
    /// A sliding window applies to all layers or to the layers that `layer_types` specifies. See transformers,
    /// models/mistral and models/ministral.
    public static let mistral = Architecture(
        family: "mistral",
        configurationNames: ["mistral", "ministral"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu),
            refine: { (layer, index, configuration) throws(CheckpointError) in
                let hasWindow = configuration.root["sliding_window"] != .null
                let isWindowed = try configuration.isWindowed(layer: index, otherwise: hasWindow)
                layer.attention?.window = isWindowed ? try configuration.window(assumed: 4096) : nil
            },
            keys: ["sliding_window", "layer_types"],
            assumedEpsilon: 1e-6,
            assumedTheta: 10000,
            assumedSizes: [.heads: 32, .keyValueHeads: 8]),
        attention: Attention(),
        layouts: [.huggingFace],
        indistinguishableVariants: ["llama"],
        isTeacher: true)
}
