extension Architecture {
    /// GLM-4-0414, which has norms before and after each block, and RoPE on adjacent pairs of channels in half of each
    /// head.
    ///
    /// See transformers, models/glm4.
    public static let glm4 = Architecture(
        family: "glm4",
        configurationNames: ["glm4"],
        body: DecoderBody(
            norm: .rms,
            mixerNorms: .both,
            feedForward: .gated(.silu),
            feedForwardNorms: .both,
            keys: ["partial_rotary_factor"],
            assumedEpsilon: 1.5625e-7,
            assumedTheta: 10000,
            assumedPartialRotaryFactor: 0.5,
            isInterleaved: true,
            assumedSizes: [.keyValueHeads: 2, .headSize: 128]),
        attention: Attention(inputBias: .configured(key: "attention_bias", assumed: true)),
        layouts: [
            .huggingFace.naming(
                [
                    .mixerPostNormWeight: "model.layers.#.post_self_attn_layernorm.weight",
                    .feedForwardPostNormWeight: "model.layers.#.post_mlp_layernorm.weight",
                    .feedForwardGate: "model.layers.#.mlp.gate_up_proj.weight",
                    .feedForwardUp: "model.layers.#.mlp.gate_up_proj.weight",
                ],
                fused: [[.feedForwardGate, .feedForwardUp]])
        ],
        isTeacher: true)
}
