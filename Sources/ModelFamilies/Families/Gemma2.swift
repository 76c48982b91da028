import Bytes
import CheckpointFiles

extension Architecture {
    /// Gemma 2, which has sliding windows in even layers, and softcaps on scores and logits.
    ///
    /// The norms before and after each block multiply by 1 + weight. See transformers, models/gemma2.
    public static let gemma2 = Architecture(
        family: "gemma2",
        configurationNames: ["gemma2"],
        body: DecoderBody(
            norm: .rmsOfOnePlus,
            scalesEmbedding: true,
            logitSoftcap: (key: "final_logit_softcapping", assumed: 30),
            mixerNorms: .both,
            feedForward: .gated(.geluTanh),
            feedForwardNorms: .both,
            refine: { (layer, index, configuration) throws(CheckpointError) in
                let isWindowed = try configuration.isWindowed(layer: index, otherwise: index % 2 == 0)
                layer.attention?.window = isWindowed ? try configuration.window(assumed: 4096) : nil
                layer.attention?.scale = 1 / (try configuration.positive("query_pre_attn_scalar") ?? 256).squareRoot()
                layer.attention?.softcap = try configuration.cap("attn_logit_softcapping", assumed: 50)
            },
            activationKey: "hidden_activation",
            // config.json also contains hidden_act, which has no effect.
            keys: ["sliding_window", "layer_types", "query_pre_attn_scalar", "attn_logit_softcapping", "hidden_act"],
            assumedEpsilon: 1e-6,
            assumedTheta: 10000,
            assumedSizes: [
                .vocabulary: 256_000, .width: 2304, .heads: 8, .keyValueHeads: 4, .headSize: 256,
                .feedForwardWidth: 9216,
            ]),
        attention: Attention(
            inputBias: .configured(key: "attention_bias"), outputBias: .configured(key: "attention_bias")),
        layouts: [.huggingFace.naming(gemmaNorms)],
        assumesTiedHead: true,
        isTeacher: true)

    /// The names of norms that Llama either lacks or names differently.
    static let gemmaNorms: [TensorRole: String] = [
        .mixerPostNormWeight: "model.layers.#.post_attention_layernorm.weight",
        .feedForwardNormWeight: "model.layers.#.pre_feedforward_layernorm.weight",
        .feedForwardPostNormWeight: "model.layers.#.post_feedforward_layernorm.weight",
    ]
}
