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
