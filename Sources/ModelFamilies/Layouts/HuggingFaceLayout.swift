extension TensorLayout {
    /// How transformers names a decoder's tensors, and how the Hugging Face form of RWKVInside's students names those of time mixing.
    public static let huggingFace = TensorLayout(
        "hf",
        names: [
            .embedding: "model.embed_tokens.weight",
            .finalNormWeight: "model.norm.weight",
            .head: "lm_head.weight",

            .mixerNormWeight: "model.layers.#.input_layernorm.weight",
            .feedForwardNormWeight: "model.layers.#.post_attention_layernorm.weight",

            .queryWeight: "model.layers.#.self_attn.q_proj.weight",
            .queryBias: "model.layers.#.self_attn.q_proj.bias",
            .keyWeight: "model.layers.#.self_attn.k_proj.weight",
            .keyBias: "model.layers.#.self_attn.k_proj.bias",
            .valueWeight: "model.layers.#.self_attn.v_proj.weight",
            .valueBias: "model.layers.#.self_attn.v_proj.bias",
            .outputWeight: "model.layers.#.self_attn.o_proj.weight",
            .outputBias: "model.layers.#.self_attn.o_proj.bias",
            .queryNorm: "model.layers.#.self_attn.q_norm.weight",
            .keyNorm: "model.layers.#.self_attn.k_norm.weight",

            .receptanceWeight: "model.layers.#.self_attn.receptance.weight",
            .receptanceBias: "model.layers.#.self_attn.receptance.bias",
            .timeMixKeyWeight: "model.layers.#.self_attn.key.weight",
            .timeMixKeyBias: "model.layers.#.self_attn.key.bias",
            .timeMixValueWeight: "model.layers.#.self_attn.value.weight",
            .timeMixValueBias: "model.layers.#.self_attn.value.bias",
            .timeMixOutputWeight: "model.layers.#.self_attn.output.weight",
            .timeMixOutputBias: "model.layers.#.self_attn.output.bias",
            .receptanceNorm: "model.layers.#.self_attn.r_norm.weight",
            .timeMixKeyNorm: "model.layers.#.self_attn.k_norm.weight",
            .decayBase: "model.layers.#.self_attn.w0",
            .decayDown: "model.layers.#.self_attn.w1",
            .decayUp: "model.layers.#.self_attn.w2",
            .iclrBase: "model.layers.#.self_attn.a0",
            .iclrDown: "model.layers.#.self_attn.a1",
            .iclrUp: "model.layers.#.self_attn.a2",
            .valueResidualBase: "model.layers.#.self_attn.v0",
            .valueResidualDown: "model.layers.#.self_attn.v1",
            .valueResidualUp: "model.layers.#.self_attn.v2",
            .keyResidualBase: "model.layers.#.self_attn.k0",
            .keyResidualDown: "model.layers.#.self_attn.k1",
            .keyResidualUp: "model.layers.#.self_attn.k2",
            .gateDown: "model.layers.#.self_attn.g1",
            .gateUp: "model.layers.#.self_attn.g2",
            .bonus: "model.layers.#.self_attn.r_k",
            .architectureRecord: "model.layers.#.self_attn.layer_architecture",
            .headSizeRecord: "model.layers.#.self_attn.head_size_record",

            .feedForwardGate: "model.layers.#.mlp.gate_proj.weight",
            .feedForwardUp: "model.layers.#.mlp.up_proj.weight",
            .feedForwardDown: "model.layers.#.mlp.down_proj.weight",
        ],
        // Before 4.33 transformers saved what it computes from theta.
        strays: ["model.layers.#.self_attn.rotary_emb.inv_freq"])

    /// What RWKVInside saves while it trains: the student within the teacher's own modules, copies of the teacher beside it.
    public static let rwkvInside = TensorLayout(
        "rwkvinside",
        names: huggingFace.names.mapValues {
            "model." + $0.replacing(".self_attn.", with: ".self_attn.student_attn.")
        },
        strays: ["q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"].flatMap { module in
            ["weight", "bias"].map { "model.model.layers.#.self_attn.teacher_attn.\(module).\($0)" }
        },
        omitsFrozen: true)
}
