import Bytes
import CheckpointJSON

extension Architecture {
    /// RWKV-7 "Goose" (x070).
    ///
    /// See RWKV-LM, RWKV-v7/rwkv_v7_demo.py, and flash-linear-attention, fla/models/rwkv7.
    public static let rwkv7 = Architecture(
        family: "rwkv7",
        variant: "x070",
        configurationNames: ["rwkv7"],
        body: DecoderBody(
            norm: .layer,
            hasEmbeddingNorm: true,
            feedForward: .channelMix(.rwkv7),
            epsilonKey: "norm_eps",
            keys: ["norm_first", "norm_bias", "fuse_norm", "num_heads", "hidden_ratio", "value_dim"],
            fixedEpsilon: 1e-5),
        timeMix: .rwkv7(
            TimeMix7(
                tokenShift: .lerp,
                inputBias: .never,
                outputBias: .never,
                headNorm: .never,
                rotary: .none,
                valueResidual: .afterRepeat,
                hasKeyResidual: false,
                removalKey: .scaledKey,
                keyScale: .iclr,
                outputNorm: .groupNorm(.standard),
                storesUnusedResiduals: false)),
        layouts: [.fla, .official],
        configurations: [
            TensorLayout.fla.name: ConfigurationTemplate(
                members: [
                    "architectures": .array([.string("RWKV7ForCausalLM")]), "model_type": .string("rwkv7"),
                    // The fused kernels use a different epsilon to normalise removal keys, so do not enable them.
                    "fuse_norm": .bool(false), "norm_bias": .bool(true), "norm_first": .bool(true),
                    "hidden_act": .string("sqrelu"), "attn_mode": .string("chunk"), "attn": .null,
                ],
                moreSizes: [.heads: "num_heads"])
        ],
        // num_heads is not read, because flash-linear-attention's converter always writes 32.
        dimensionKeys: [
            .vocabulary: "vocab_size", .width: "hidden_size", .headSize: "head_dim",
            .feedForwardWidth: "intermediate_size", .decayRank: "decay_low_rank_dim", .iclrRank: "a_low_rank_dim",
            .valueResidualRank: "v_low_rank_dim", .gateRank: "gate_low_rank_dim",
        ],
        impliedSizes: [.attentionWidth: .width, .keyValueWidth: .width, .valueResidualWidth: .width])
}
