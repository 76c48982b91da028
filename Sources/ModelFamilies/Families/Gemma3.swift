import Bytes
import CheckpointFiles

extension Architecture {
    /// Gemma 3, which differs from Gemma 2 in having head norms and no score softcaps.
    ///
    /// Layers with a sliding window have their own RoPE base. See transformers, models/gemma3.
    public static let gemma3: Architecture = Architecture(
        family: "gemma3_text",
        configurationNames: ["gemma3_text", "gemma3"],
        body: DecoderBody(
            norm: .rmsOfOnePlus,
            scalesEmbedding: true,
            logitSoftcap: (key: "final_logit_softcapping", assumed: nil),
            mixerNorms: .both,
            feedForward: .gated(.geluTanh),
            feedForwardNorms: .both,
            refine: { (layer, index, configuration) throws(CheckpointError) in
                let pattern = try configuration.size("sliding_window_pattern") ?? 6
                let isWindowed = try configuration.isWindowed(layer: index, otherwise: (index + 1) % pattern != 0)
                layer.attention?.scale = 1 / (try configuration.positive("query_pre_attn_scalar") ?? 256).squareRoot()
                guard isWindowed else { return }
                layer.attention?.window = try configuration.window(assumed: 4096)
                layer.rotation = try RotaryEmbedding(
                    configuration, of: gemma3.body, layerType: "sliding_attention", thetaKey: "rope_local_base_freq",
                    assumedTheta: 10000)
            },
            activationKey: "hidden_activation",
            // attn_logit_softcapping and hidden_act have no effect.
            keys: [
                "sliding_window", "sliding_window_pattern", "layer_types", "query_pre_attn_scalar",
                "rope_local_base_freq",
                "attn_logit_softcapping", "hidden_act",
            ],
            assumedEpsilon: 1e-6,
            assumedTheta: 1_000_000,
            hasRotationsByKind: true,
            assumedSizes: [
                .vocabulary: 262_208, .width: 2304, .heads: 8, .keyValueHeads: 4, .headSize: 256,
                .feedForwardWidth: 9216,
            ]),
        attention: Attention(
            inputBias: .configured(key: "attention_bias"), outputBias: .configured(key: "attention_bias"),
            headNorm: .always),
        layouts: [.huggingFace.naming(gemmaNorms)],
        assumesTiedHead: true,
        isTeacher: true)
}
