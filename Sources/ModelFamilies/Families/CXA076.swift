extension Architecture {
    /// PRWKV-7 cxa076, which combines a teacher's body with time mixing that has no token shift, head norms or RoPE.
    ///
    /// See RWKVInside, rwkv_inside/TimeMixer.py at d144b11.
    public static let cxa076 = Architecture(
        family: "cxa",
        variant: "cxa076",
        configurationNames: ["cxa076"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu)),
        attention: Attention(inputBias: .sometimes, outputBias: .sometimes, headNorm: .sometimes),
        timeMix: timeMix076(headNorm: .never),
        hasTeachersBody: true,
        layouts: [.huggingFace, .rwkvInfer, .rwkvInside],
        impliedSizes: [.valueResidualWidth: .attentionWidth],
        conversion: StudentRecipe(
            ranks: [
                .decayRank: .init(32, 1.8, 0.5), .iclrRank: .init(32, 1.8, 0.5),
                .valueResidualRank: .init(32, 1.3, 0.5),
                .gateRank: .init(32, 0.6, 0.8),
            ],
            initialisers: [
                .decayBase: .decayRamp, .decayDown: .constant(0), .decayUp: .orthogonal(gain: 0.1),
                .iclrBase: .constant(0), .iclrDown: .constant(0), .iclrUp: .orthogonal(gain: 0.1),
                .valueResidualBase: .constant(1), .valueResidualDown: .constant(0),
                .valueResidualUp: .orthogonal(gain: 0.1),
                .gateDown: .constant(0), .gateUp: .orthogonal(gain: 0.1),
                .bonus: .constant(0),
            ],
            attentionUsesRoPE: true))

    /// The variant of cxa076 that has head norms on receptance and key.
    ///
    /// The variants cxa077 and cxa078 have the same tensors but apply RoPE. See RWKVInside, rwkv_inside/TimeMixer.py at
    /// 56cc141.
    public static let cxa076r = Architecture(
        family: cxa076.family,
        variant: "cxa076r",
        configurationNames: ["cxa076r"],
        body: cxa076.body,
        timeMix: timeMix076(headNorm: .always),
        hasTeachersBody: true,
        layouts: cxa076.layouts,
        impliedSizes: cxa076.impliedSizes,
        indistinguishableVariants: ["cxa077", "cxa078"])

    private static func timeMix076(headNorm: Presence) -> TimeMixSpec {
        .rwkv7(
            TimeMix7(
                tokenShift: .none,
                headNorm: headNorm,
                rotary: .none,
                valueResidual: .afterRepeat,
                hasKeyResidual: false,
                removalKey: .key,
                keyScale: .oneMinusOmega,
                outputNorm: .headScale,
                hasRecords: true))
    }
}
