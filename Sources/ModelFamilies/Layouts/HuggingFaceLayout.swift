extension TensorLayout {
    /// The layout of decoders in transformers, and of RWKVInside's students in Hugging Face form.
    public static let huggingFace = TensorLayout(
        "hf",
        names: names(root: "", mixer: "self_attn."),
        transforms: baseTransforms,
        // Before version 4.33, transformers saved the inverse frequencies. It now computes them from theta.
        ignoredNames: ["model.layers.#.self_attn.rotary_emb.inv_freq"])

    /// The layout that RWKVInside saves during training.
    ///
    /// Each of the teacher's attention modules contains the student's mixer next to the teacher's attention.
    public static let rwkvInside = TensorLayout(
        "rwkvinside",
        names: names(root: "model.", mixer: "self_attn.student_attn."),
        transforms: baseTransforms,
        ignoredNames: ["q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"].flatMap { module in
            ["weight", "bias"].map { "model.model.layers.#.self_attn.teacher_attn.\(module).\($0)" }
        },
        holdsTrainedOnly: true)

    /// The layout of ARWKV in Hugging Face form.
    static let arwkv = TensorLayout(
        "hf", names: names(root: "", mixer: "self_attn.time_mixer."), transforms: baseTransforms
    ).namingStages(in: "model.layers.#.self_attn.time_mixer.")

    private static func names(root: String, mixer: String) -> [TensorRole: String] {
        let layer = root + "model.layers.#."
        let mixer = layer + mixer
        return [
            .embedding: root + "model.embed_tokens.weight",
            .finalNormWeight: root + "model.norm.weight",
            .head: root + "lm_head.weight",

            .mixerNormWeight: layer + "input_layernorm.weight",
            .feedForwardNormWeight: layer + "post_attention_layernorm.weight",

            .queryWeight: mixer + "q_proj.weight",
            .queryBias: mixer + "q_proj.bias",
            .keyWeight: mixer + "k_proj.weight",
            .keyBias: mixer + "k_proj.bias",
            .valueWeight: mixer + "v_proj.weight",
            .valueBias: mixer + "v_proj.bias",
            .outputWeight: mixer + "o_proj.weight",
            .outputBias: mixer + "o_proj.bias",
            .queryNorm: mixer + "q_norm.weight",
            .keyNorm: mixer + "k_norm.weight",

            .receptanceWeight: mixer + "receptance.weight",
            .receptanceBias: mixer + "receptance.bias",
            .timeMixKeyWeight: mixer + "key.weight",
            .timeMixKeyBias: mixer + "key.bias",
            .timeMixValueWeight: mixer + "value.weight",
            .timeMixValueBias: mixer + "value.bias",
            .timeMixOutputWeight: mixer + "output.weight",
            .timeMixOutputBias: mixer + "output.bias",
            .receptanceNorm: mixer + "r_norm.weight",
            .timeMixKeyNorm: mixer + "k_norm.weight",
            .decayBase: mixer + "w0",
            .decayDown: mixer + "w1",
            .decayUp: mixer + "w2",
            .iclrBase: mixer + "a0",
            .iclrDown: mixer + "a1",
            .iclrUp: mixer + "a2",
            .valueResidualBase: mixer + "v0",
            .valueResidualDown: mixer + "v1",
            .valueResidualUp: mixer + "v2",
            .keyResidualBase: mixer + "k0",
            .keyResidualDown: mixer + "k1",
            .keyResidualUp: mixer + "k2",
            .gateDown: mixer + "g1",
            .gateUp: mixer + "g2",
            .bonus: mixer + "r_k",
            .architectureRecord: mixer + "layer_architecture",
            .headSizeRecord: mixer + "head_size_record",

            .feedForwardGate: layer + "mlp.gate_proj.weight",
            .feedForwardUp: layer + "mlp.up_proj.weight",
            .feedForwardDown: layer + "mlp.down_proj.weight",
        ]
    }
}
