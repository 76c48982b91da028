extension Architecture {
    /// The cxa079 architecture, which is called hxa079 if some layers keep softmax attention.
    ///
    /// It uses a teacher's body. Time mixing applies the teacher's head norms and RoPE. The first layer's values and
    /// keys are mixed in before keys and values are repeated for each head. See RWKVInside, rwkv_inside/TimeMixer.py at
    /// d03af49; the ranks and initialisers come from its class for 079.
    public static let cxa079 = Architecture(
        family: "cxa",
        variant: "cxa079",
        hybridVariant: "hxa079",
        configurationNames: ["cxa079", "hxa079"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu)),
        attention: Attention(inputBias: .sometimes, outputBias: .sometimes, headNorm: .sometimes),
        timeMix: .rwkv7(
            TimeMix7(
                tokenShift: .none,
                headNorm: .sometimes,
                rotary: .teacher,
                valueResidual: .beforeRepeat,
                hasKeyResidual: true,
                removalKey: .key,
                keyScale: .oneMinusOmega,
                outputNorm: .headScale,
                hasRecords: true)),
        hasTeachersBody: true,
        layouts: [.huggingFace, .rwkvInfer, .rwkvInside],
        impliedSizes: [.valueResidualWidth: .keyValueWidth],
        conversion: StudentRecipe(
            ranks: [
                .decayRank: .init(256, 1.7, 0.6), .iclrRank: .init(32, 1.8, 0.5),
                .valueResidualRank: .init(32, 1.3, 0.5),
                .keyResidualRank: .init(32, 1.3, 0.5), .gateRank: .init(256, 0.35, 0.8),
            ],
            initialisers: [
                .decayBase: .decayRampWithHeads, .decayDown: .constant(0), .decayUp: .orthogonal(gain: 0.1),
                .iclrBase: .iclrRamp, .iclrDown: .constant(0), .iclrUp: .orthogonal(gain: 0.1),
                // The trainer intends a falling ramp over the channels, but leaves the slope at zero.
                .valueResidualBase: .constant(0.73), .valueResidualDown: .constant(0),
                .valueResidualUp: .orthogonal(gain: 0.1),
                .keyResidualBase: .constant(0.73), .keyResidualDown: .constant(0),
                .keyResidualUp: .orthogonal(gain: 0.1),
                .gateDown: .constant(0), .gateUp: .orthogonal(gain: 0.1),
                .bonus: .constant(-0.04),
                // These apply only if the teacher has no head norms.
                .receptanceNorm: .constant(1), .timeMixKeyNorm: .constant(1),
            ],
            attentionUsesRoPE: false),
        transformersClass: "Hrwkv079HybridForCausalLM")
}
