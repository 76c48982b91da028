import Bytes
import CheckpointFiles

extension Architecture {
    /// Phi-3, Phi-3.5 and Phi-4, which have fused tensors for queries, keys and values, and for gate and up
    /// projections.
    ///
    /// See transformers, models/phi3.
    public static let phi3 = Architecture(
        family: "phi3",
        configurationNames: ["phi3"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu),
            refine: { (layer, _, configuration) throws(CheckpointError) in
                layer.attention?.window = try configuration.size("sliding_window")
            },
            keys: ["sliding_window", "partial_rotary_factor"],
            assumedEpsilon: 1e-5,
            assumedTheta: 10000,
            // The first releases use these names in config.json.
            ropeTypeAliases: ["su": "longrope", "yarn": "longrope"],
            assumedOriginalLength: 4096),
        attention: Attention(),
        layouts: [
            .huggingFace.naming(
                [
                    .queryWeight: "model.layers.#.self_attn.qkv_proj.weight",
                    .keyWeight: "model.layers.#.self_attn.qkv_proj.weight",
                    .valueWeight: "model.layers.#.self_attn.qkv_proj.weight",
                    .feedForwardGate: "model.layers.#.mlp.gate_up_proj.weight",
                    .feedForwardUp: "model.layers.#.mlp.gate_up_proj.weight",
                ],
                fused: [[.queryWeight, .keyWeight, .valueWeight], [.feedForwardGate, .feedForwardUp]])
        ],
        isTeacher: true)
}
