import Bytes

extension TensorLayout {
    /// The layout of RWKV-6 that RWKV's own trainer saves (RWKV-LM, RWKV-v5/src/model.py).
    static let finch = official.naming([
        .shiftInput: "blocks.#.att.time_maa_x",
        .shiftDecay: "blocks.#.att.time_maa_w",
        .shiftKey: "blocks.#.att.time_maa_k",
        .shiftValue: "blocks.#.att.time_maa_v",
        .shiftReceptance: "blocks.#.att.time_maa_r",
        .shiftGate: "blocks.#.att.time_maa_g",
        .shiftDown: "blocks.#.att.time_maa_w1",
        .shiftUp: "blocks.#.att.time_maa_w2",
        .decayBase: "blocks.#.att.time_decay",
        .decayDown: "blocks.#.att.time_decay_w1",
        .decayUp: "blocks.#.att.time_decay_w2",
        .bonus: "blocks.#.att.time_faaaa",
        .gateWeight: "blocks.#.att.gate.weight",

        .channelMixShift: "blocks.#.ffn.time_maa_k",
        .channelMixReceptanceShift: "blocks.#.ffn.time_maa_r",
        .channelMixReceptance: "blocks.#.ffn.receptance.weight",
    ])

    /// The layout of RWKV-6 in flash-linear-attention (fla/layers/rwkv6.py).
    static let finchFLA = fla.naming(
        [
            .shiftInput: "model.layers.#.attn.x_proj.0.mu",
            .shiftDown: "model.layers.#.attn.x_proj.0.linear.weight",
            .shiftUp: "model.layers.#.attn.x_proj.2.weight",
            .shiftReceptance: "model.layers.#.attn.x_bias",
            .shiftDecay: "model.layers.#.attn.x_bias",
            .shiftKey: "model.layers.#.attn.x_bias",
            .shiftValue: "model.layers.#.attn.x_bias",
            .shiftGate: "model.layers.#.attn.x_bias",
            .receptanceWeight: "model.layers.#.attn.r_proj.linear.weight",
            .timeMixKeyWeight: "model.layers.#.attn.k_proj.linear.weight",
            .timeMixValueWeight: "model.layers.#.attn.v_proj.linear.weight",
            .gateWeight: "model.layers.#.attn.g_proj.linear.weight",
            .decayBase: "model.layers.#.attn.w_proj.linear.lora.2.bias",
            .decayDown: "model.layers.#.attn.w_proj.linear.lora.0.weight",
            .decayUp: "model.layers.#.attn.w_proj.linear.lora.2.weight",
            .bonus: "model.layers.#.attn.bonus",

            .channelMixKey: "model.layers.#.ffn.key.linear.weight",
            .channelMixShift: "model.layers.#.ffn.key.mu",
            .channelMixReceptance: "model.layers.#.ffn.receptance.linear.weight",
            .channelMixReceptanceShift: "model.layers.#.ffn.receptance.mu",
        ],
        fused: [[.shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftGate]],
        transforms: [
            .shiftDown: .transposed, .shiftUp: .sideBySide, .shiftReceptance: .rows, .shiftDecay: .rows,
            .shiftKey: .rows, .shiftValue: .rows, .shiftGate: .rows,
        ])

    /// The layout of RWKV-5 that RWKV's own trainer saves (RWKV-LM, RWKV-v5/src/model.py).
    static let eagle = official.naming([
        .shiftKey: "blocks.#.att.time_mix_k",
        .shiftValue: "blocks.#.att.time_mix_v",
        .shiftReceptance: "blocks.#.att.time_mix_r",
        .shiftGate: "blocks.#.att.time_mix_g",
        .fixedDecay: "blocks.#.att.time_decay",
        .bonus: "blocks.#.att.time_faaaa",
        .gateWeight: "blocks.#.att.gate.weight",

        .channelMixShift: "blocks.#.ffn.time_mix_k",
        .channelMixReceptanceShift: "blocks.#.ffn.time_mix_r",
        .channelMixReceptance: "blocks.#.ffn.receptance.weight",
    ])

    /// The layout of the published RWKV/rwkv-6-world models, for the class Rwkv6ForCausalLM.
    static let finchHuggingFace = finch.inHuggingFaceForm()

    /// The layout of the published RWKV/rwkv-5-world models, for the class Rwkv5ForCausalLM.
    static let eagleHuggingFace = eagle.inHuggingFaceForm().naming([
        .shiftKey: "rwkv.blocks.#.attention.time_mix_key",
        .shiftValue: "rwkv.blocks.#.attention.time_mix_value",
        .shiftReceptance: "rwkv.blocks.#.attention.time_mix_receptance",
        .shiftGate: "rwkv.blocks.#.attention.time_mix_gate",

        .channelMixShift: "rwkv.blocks.#.feed_forward.time_mix_key",
        .channelMixReceptanceShift: "rwkv.blocks.#.feed_forward.time_mix_receptance",
    ])

    /// Returns this official layout with the modules' names of the published Hugging Face classes.
    private func inHuggingFaceForm() -> TensorLayout {
        let modules = [
            ("emb.", "rwkv.embeddings."), ("ln_out.", "rwkv.ln_out."), ("blocks.0.ln0.", "rwkv.blocks.0.pre_ln."),
            ("blocks.#.att.", "rwkv.blocks.#.attention."), ("blocks.#.ffn.", "rwkv.blocks.#.feed_forward."),
            ("blocks.", "rwkv.blocks."),
        ]
        let names = names.mapValues { name in
            for (own, other) in modules {
                if let rest = name.dropping(prefix: own) { return other + rest }
            }
            return name
        }
        return TensorLayout("hf", names: names, transforms: transforms)
    }
}
