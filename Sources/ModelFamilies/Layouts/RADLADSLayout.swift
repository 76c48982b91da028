extension TensorLayout {
    /// The layout of RADLADS' students, whose projections keep the teacher's names.
    static let radlads = huggingFace.naming([
        .receptanceWeight: "model.layers.#.self_attn.q_proj.weight",
        .receptanceBias: "model.layers.#.self_attn.q_proj.bias",
        .timeMixKeyWeight: "model.layers.#.self_attn.k_proj.weight",
        .timeMixKeyBias: "model.layers.#.self_attn.k_proj.bias",
        .timeMixValueWeight: "model.layers.#.self_attn.v_proj.weight",
        .timeMixValueBias: "model.layers.#.self_attn.v_proj.bias",
        .timeMixOutputWeight: "model.layers.#.self_attn.o_proj.weight",
        .timeMixOutputBias: "model.layers.#.self_attn.o_proj.bias",
        .receptanceNorm: "model.layers.#.self_attn.q_norm.weight",
        .gateWeight: "model.layers.#.self_attn.gate.weight",
    ]).namingStages(in: "model.layers.#.self_attn.")

    /// The layout of RAD-RWKV6.
    static let radladsFinch = radlads.naming(
        [
            .shiftInput: "model.layers.#.self_attn.time_maa_x",
            .shiftReceptance: "model.layers.#.self_attn.time_maa_r",
            .shiftKey: "model.layers.#.self_attn.time_maa_k",
            .shiftValue: "model.layers.#.self_attn.time_maa_v",
            .shiftDecay: "model.layers.#.self_attn.time_maa_w",
            .shiftGate: "model.layers.#.self_attn.time_maa_g",
            .shiftDown: "model.layers.#.self_attn.time_maa_w1",
            .shiftUp: "model.layers.#.self_attn.time_maa_w2",
            .decayBase: "model.layers.#.self_attn.time_decay",
            .decayDown: "model.layers.#.self_attn.time_decay_w1",
            .decayUp: "model.layers.#.self_attn.time_decay_w2",
        ], transforms: [.shiftInput: .leadingOnes])
}
