extension TensorLayout {
    /// The layout that RWKV's own trainer saves (RWKV-LM, RWKV-v7/train_temp/src/model.py).
    public static let official = TensorLayout(
        "official",
        names: [
            .embedding: "emb.weight",
            .embeddingNormWeight: "blocks.0.ln0.weight",
            .embeddingNormBias: "blocks.0.ln0.bias",
            .finalNormWeight: "ln_out.weight",
            .finalNormBias: "ln_out.bias",
            .head: "head.weight",

            .mixerNormWeight: "blocks.#.ln1.weight",
            .mixerNormBias: "blocks.#.ln1.bias",
            .feedForwardNormWeight: "blocks.#.ln2.weight",
            .feedForwardNormBias: "blocks.#.ln2.bias",

            .channelMixShift: "blocks.#.ffn.x_k",
            .channelMixKey: "blocks.#.ffn.key.weight",
            .channelMixValue: "blocks.#.ffn.value.weight",
        ].merging(timeMixNames) { $1 },
        transforms: [
            .channelMixShift: .leadingOnes, .shiftInput: .leadingOnes, .channelMixReceptanceShift: .leadingOnes,
        ].merging(baseTransforms) { $1 },
        alwaysStoresHead: true
    ).namingStages(in: "blocks.#.att.")

    /// The layout that RWKVInside's converter writes for RWKV-Infer.
    ///
    /// It combines RWKV's names for time mixing with the body of a transformer.
    public static let rwkvInfer = TensorLayout(
        "rwkv-infer",
        names: [
            .embedding: "emb.weight",
            .finalNormWeight: "ln_out.weight",
            .head: "head.weight",

            .mixerNormWeight: "blocks.#.ln1.weight",
            .feedForwardNormWeight: "blocks.#.ln2.weight",

            .queryWeight: "blocks.#.att.q_proj.weight",
            .queryBias: "blocks.#.att.q_proj.bias",
            .keyWeight: "blocks.#.att.k_proj.weight",
            .keyBias: "blocks.#.att.k_proj.bias",
            .valueWeight: "blocks.#.att.v_proj.weight",
            .valueBias: "blocks.#.att.v_proj.bias",
            .outputWeight: "blocks.#.att.o_proj.weight",
            .outputBias: "blocks.#.att.o_proj.bias",
            // Attention and time mixing share the names of these norms.
            .queryNorm: "blocks.#.att.ln_r.weight",
            .keyNorm: "blocks.#.att.ln_k.weight",
            .receptanceNorm: "blocks.#.att.ln_r.weight",
            .timeMixKeyNorm: "blocks.#.att.ln_k.weight",
            .architectureRecord: "blocks.#.att.layer_architecture",
            .headSizeRecord: "blocks.#.att.head_size_record",

            .feedForwardGate: "blocks.#.ffn.gate.weight",
            .feedForwardUp: "blocks.#.ffn.up.weight",
            .feedForwardDown: "blocks.#.ffn.down.weight",
        ].merging(timeMixNames) { $1 },
        transforms: baseTransforms,
        // The converter does not remove these copies of the teacher's norms.
        ignoredNames: ["blocks.#.self_attn.ln_r.weight", "blocks.#.self_attn.ln_k.weight"],
        alwaysStoresHead: true)

    /// Returns this layout with RWKV-7's names for token shifts, scales of keys and the group norm.
    ///
    /// - Parameter mixer: the prefix of the names, with `#` in place of the layer index.
    /// - Returns: the layout with these names.
    func namingStages(in mixer: String) -> TensorLayout {
        naming(
            [
                .shiftReceptance: mixer + "x_r", .shiftDecay: mixer + "x_w", .shiftKey: mixer + "x_k",
                .shiftValue: mixer + "x_v", .shiftICLR: mixer + "x_a", .shiftGate: mixer + "x_g",
                .removalKeyScale: mixer + "k_k", .keyICLRMix: mixer + "k_a",
                .groupNormWeight: mixer + "ln_x.weight", .groupNormBias: mixer + "ln_x.bias",
            ],
            transforms: [
                .shiftReceptance: .leadingOnes, .shiftDecay: .leadingOnes, .shiftKey: .leadingOnes,
                .shiftValue: .leadingOnes, .shiftICLR: .leadingOnes, .shiftGate: .leadingOnes,
                .removalKeyScale: .leadingOnes, .keyICLRMix: .leadingOnes,
            ])
    }

    /// The transforms of the low-rank parts' biases (w0, a0, v0, k0), which RWKV's own code stores as [1, 1, n].
    static let baseTransforms: [TensorRole: Transform] = [
        .decayBase: .leadingOnes, .iclrBase: .leadingOnes, .valueResidualBase: .leadingOnes,
        .keyResidualBase: .leadingOnes,
    ]

    /// The names of time-mixing tensors that both layouts share.
    private static let timeMixNames: [TensorRole: String] = [
        .receptanceWeight: "blocks.#.att.receptance.weight",
        .receptanceBias: "blocks.#.att.receptance.bias",
        .timeMixKeyWeight: "blocks.#.att.key.weight",
        .timeMixKeyBias: "blocks.#.att.key.bias",
        .timeMixValueWeight: "blocks.#.att.value.weight",
        .timeMixValueBias: "blocks.#.att.value.bias",
        .timeMixOutputWeight: "blocks.#.att.output.weight",
        .timeMixOutputBias: "blocks.#.att.output.bias",
        .decayBase: "blocks.#.att.w0",
        .decayDown: "blocks.#.att.w1",
        .decayUp: "blocks.#.att.w2",
        .iclrBase: "blocks.#.att.a0",
        .iclrDown: "blocks.#.att.a1",
        .iclrUp: "blocks.#.att.a2",
        .valueResidualBase: "blocks.#.att.v0",
        .valueResidualDown: "blocks.#.att.v1",
        .valueResidualUp: "blocks.#.att.v2",
        .keyResidualBase: "blocks.#.att.k0",
        .keyResidualDown: "blocks.#.att.k1",
        .keyResidualUp: "blocks.#.att.k2",
        .gateDown: "blocks.#.att.g1",
        .gateUp: "blocks.#.att.g2",
        .bonus: "blocks.#.att.r_k",
    ]
}
