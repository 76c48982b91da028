import Bytes
import CheckpointJSON

extension Architecture {
    /// RWKV-6 "Finch" (x060).
    ///
    /// See RWKV-LM, RWKV-v5/src/model.py.
    public static let rwkv6 = Architecture(
        family: "rwkv6",
        variant: "x060",
        configurationNames: ["rwkv6"],
        body: eagleBody(.rwkv6),
        timeMix: .rwkv6(TimeMix6(tokenShift: .dataDependent, decay: .lowRank)),
        layouts: [.finchHuggingFace, .finch],
        configurations: ["hf": eagleConfiguration(modelType: "rwkv6", className: "Rwkv6ForCausalLM")],
        dimensionKeys: eagleKeys,
        impliedSizes: [.attentionWidth: .width, .keyValueWidth: .attentionWidth])

    /// RWKV-6 "Finch" (x060) as the class of flash-linear-attention reads it, which normalises the heads' output with the
    /// epsilon of the other norms.
    ///
    /// See flash-linear-attention, fla/models/rwkv6 and fla/layers/rwkv6.py.
    static let rwkv6FLA = Architecture(
        family: "rwkv6",
        variant: "x060",
        configurationNames: ["rwkv6"],
        body: DecoderBody(
            norm: .layer,
            hasEmbeddingNorm: true,
            feedForward: .channelMix(.rwkv6),
            epsilonKey: "norm_eps",
            keys: ["expand_k", "expand_v", "norm_first", "norm_bias", "fuse_norm", "hidden_ratio"],
            implementedValues: [
                "expand_k": .integer(1), "expand_v": .integer(1), "norm_first": .bool(true), "norm_bias": .bool(true),
            ],
            fixedEpsilon: 1e-5),
        timeMix: .rwkv6(
            TimeMix6(
                tokenShift: .dataDependent, decay: .lowRank, outputNorm: .groupNorm(.ofNorms),
                shiftOrder: [.shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftGate])),
        layouts: [.finchFLA],
        configurations: [
            TensorLayout.fla.name: ConfigurationTemplate(members: [
                "architectures": .array([.string("RWKV6ForCausalLM")]), "model_type": .string("rwkv6"),
                // The class assumes half as many channels for receptances and keys.
                "expand_k": .number(1), "expand_v": .number(1), "fuse_norm": .bool(false), "norm_bias": .bool(true),
                "norm_first": .bool(true), "hidden_act": .string("sqrelu"), "attn_mode": .string("chunk"),
                "attn": .null,
            ])
        ],
        dimensionKeys: [
            .vocabulary: "vocab_size", .width: "hidden_size", .heads: "num_heads",
            .feedForwardWidth: "intermediate_size", .shiftRank: "proj_low_rank_dim", .decayRank: "gate_low_rank_dim",
        ],
        impliedSizes: [.attentionWidth: .width, .keyValueWidth: .attentionWidth])

    /// RWKV-5 "Eagle" (x052).
    ///
    /// See RWKV-LM, RWKV-v5/src/model.py.
    public static let rwkv5 = Architecture(
        family: "rwkv5",
        variant: "x052",
        configurationNames: ["rwkv5"],
        body: eagleBody(.rwkv5),
        timeMix: .rwkv6(TimeMix6(tokenShift: .fixed, decay: .fixed)),
        layouts: [.eagleHuggingFace, .eagle],
        configurations: ["hf": eagleConfiguration(modelType: "rwkv5", className: "Rwkv5ForCausalLM")],
        dimensionKeys: eagleKeys,
        impliedSizes: [.attentionWidth: .width, .keyValueWidth: .attentionWidth])

    private static func eagleBody(_ channelMix: FeedForwardSpec.ChannelMix) -> DecoderBody {
        DecoderBody(
            norm: .layer,
            hasEmbeddingNorm: true,
            feedForward: .channelMix(channelMix),
            epsilonKey: "layer_norm_epsilon",
            // rescale_every halves the residual stream in fp16, which the final norm undoes. num_attention_heads is not
            // read, because the classes do not read it either.
            keys: ["context_length", "head_size_divisor", "num_attention_heads", "rescale_every"],
            fixedEpsilon: 1e-5)
    }

    private static let eagleKeys: [ModelDimension: String] = [
        .vocabulary: "vocab_size", .width: "hidden_size", .headSize: "head_size",
        .feedForwardWidth: "intermediate_size", .attentionWidth: "attention_hidden_size",
    ]

    private static func eagleConfiguration(modelType: String, className: String) -> ConfigurationTemplate {
        ConfigurationTemplate(members: [
            "model_type": .string(ByteString(modelType)), "architectures": .array([.string(ByteString(className))]),
        ])
    }
}
