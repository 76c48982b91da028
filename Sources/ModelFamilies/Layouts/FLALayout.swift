extension TensorLayout {
    /// The layout of RWKV-7 in flash-linear-attention (fla/layers/rwkv7.py).
    ///
    /// It stores low-rank matrices as linear weights, with shape `[out, in]`.
    public static let fla = TensorLayout(
        "fla",
        names: [
            .embedding: "model.embeddings.weight",
            .embeddingNormWeight: "model.layers.0.pre_norm.weight",
            .embeddingNormBias: "model.layers.0.pre_norm.bias",
            .finalNormWeight: "model.norm.weight",
            .finalNormBias: "model.norm.bias",
            .head: "lm_head.weight",

            .mixerNormWeight: "model.layers.#.attn_norm.weight",
            .mixerNormBias: "model.layers.#.attn_norm.bias",
            .feedForwardNormWeight: "model.layers.#.ffn_norm.weight",
            .feedForwardNormBias: "model.layers.#.ffn_norm.bias",

            .receptanceWeight: "model.layers.#.attn.r_proj.weight",
            .timeMixKeyWeight: "model.layers.#.attn.k_proj.weight",
            .timeMixValueWeight: "model.layers.#.attn.v_proj.weight",
            .timeMixOutputWeight: "model.layers.#.attn.o_proj.weight",
            .shiftReceptance: "model.layers.#.attn.x_r",
            .shiftDecay: "model.layers.#.attn.x_w",
            .shiftKey: "model.layers.#.attn.x_k",
            .shiftValue: "model.layers.#.attn.x_v",
            .shiftICLR: "model.layers.#.attn.x_a",
            .shiftGate: "model.layers.#.attn.x_g",
            .decayBase: "model.layers.#.attn.w_lora.lora.2.bias",
            .decayDown: "model.layers.#.attn.w_lora.lora.0.weight",
            .decayUp: "model.layers.#.attn.w_lora.lora.2.weight",
            .iclrBase: "model.layers.#.attn.a_lora.lora.2.bias",
            .iclrDown: "model.layers.#.attn.a_lora.lora.0.weight",
            .iclrUp: "model.layers.#.attn.a_lora.lora.2.weight",
            .valueResidualBase: "model.layers.#.attn.v_lora.lora.2.bias",
            .valueResidualDown: "model.layers.#.attn.v_lora.lora.0.weight",
            .valueResidualUp: "model.layers.#.attn.v_lora.lora.2.weight",
            .gateDown: "model.layers.#.attn.g_lora.lora.0.weight",
            .gateUp: "model.layers.#.attn.g_lora.lora.2.weight",
            .removalKeyScale: "model.layers.#.attn.k_k",
            .keyICLRMix: "model.layers.#.attn.k_a",
            .bonus: "model.layers.#.attn.r_k",
            .groupNormWeight: "model.layers.#.attn.g_norm.weight",
            .groupNormBias: "model.layers.#.attn.g_norm.bias",

            .channelMixShift: "model.layers.#.ffn.x_k",
            .channelMixKey: "model.layers.#.ffn.key.weight",
            .channelMixValue: "model.layers.#.ffn.value.weight",
        ],
        transforms: [
            .decayDown: .transposed, .decayUp: .transposed, .iclrDown: .transposed, .iclrUp: .transposed,
            .valueResidualDown: .transposed, .valueResidualUp: .transposed, .gateDown: .transposed,
            .gateUp: .transposed, .shiftReceptance: .leadingOnes, .shiftDecay: .leadingOnes, .shiftKey: .leadingOnes,
            .shiftValue: .leadingOnes, .shiftICLR: .leadingOnes, .shiftGate: .leadingOnes,
        ],
        mayHoldUnusedResiduals: false)
}
