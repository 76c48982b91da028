// The architectures that RWKVInside calls hxa07a to hxa07d if some layers keep softmax attention. They combine a teacher's
// body with time mixing that has the teacher's head norms and RoPE, like cxa079.
extension Architecture {
    /// cxa07a, whose time mixing has neither the first layer's values and keys nor a bonus, and whose RoPE is not scaled.
    ///
    /// See RWKVInside, rwkv_inside/TimeMixer.py at d03af49.
    public static let cxa07a = hxa07Line(
        "07a", TimeMix7.of07Line(rotary: .teacherUnscaled, valueResidual: .none, keyScale: .oneMinusOmega),
        StudentRecipe(
            ranks: [
                .decayRank: .init(32, 1.7, 0.6), .iclrRank: .init(32, 1.3, 0.5), .gateRank: .init(32, 1.7, 0.6),
            ],
            initialisers: hxa07Initialisers.merging([.decayDown: .constant(0), .iclrDown: .constant(0)]) { $1 },
            attentionUsesRoPE: false))

    /// cxa07b, which adds a low-rank term to the values.
    ///
    /// cxa07c has the same tensors. See RWKVInside, rwkv_inside/TimeMixer.py at d03af49.
    public static let cxa07b = hxa07Line(
        "07b", TimeMix7.of07Line(rotary: .teacher, valueResidual: .lowRank, keyScale: .oneMinusOmega), recipe07bc,
        indistinguishableVariants: ["cxa07c"])

    /// cxa07c, which scales the key by the decay itself.
    ///
    /// cxa07b has the same tensors. See RWKVInside, rwkv_inside/TimeMixer.py at d03af49.
    public static let cxa07c = hxa07Line(
        "07c", TimeMix7.of07Line(rotary: .teacher, valueResidual: .lowRank, keyScale: .oneMinusDecay), recipe07bc,
        indistinguishableVariants: ["cxa07b"])

    /// cxa07d, which is cxa079 with a key that is scaled by the decay itself.
    ///
    /// cxa079 has the same tensors. No training code for cxa07d is published, so its ranks and initialisers are those of
    /// cxa079. See OpenMOSE's fork of llama.cpp, src/models/rwkv07d-moe.cpp.
    public static let cxa07d: Architecture = {
        guard case .rwkv7(var timeMix)? = cxa079.timeMix, var recipe = cxa079.conversion else {
            preconditionFailure("cxa079 has time mixing of RWKV-7 and a recipe")
        }
        timeMix.keyScale = .oneMinusDecay
        recipe.note = "no training code for cxa07d is published, so ranks and initialisers are those of cxa079"
        var architecture = hxa07Line("07d", timeMix, recipe, indistinguishableVariants: ["cxa079"])
        architecture.impliedSizes = cxa079.impliedSizes
        return architecture
    }()

    private static func hxa07Line(
        _ name: String, _ timeMix: TimeMix7, _ recipe: StudentRecipe, indistinguishableVariants: [String] = []
    ) -> Architecture {
        Architecture(
            family: "cxa",
            variant: "cxa\(name)",
            hybridVariant: "hxa\(name)",
            configurationNames: ["cxa\(name)", "hxa\(name)"],
            body: cxa079.body,
            attention: cxa079.attention,
            timeMix: .rwkv7(timeMix),
            hasTeachersBody: true,
            layouts: cxa079.layouts,
            impliedSizes: [.valueResidualWidth: .attentionWidth],
            indistinguishableVariants: indistinguishableVariants,
            conversion: recipe)
    }

    private static let recipe07bc = StudentRecipe(
        ranks: [
            .decayRank: .init(256, 1.7, 0.6), .iclrRank: .init(128, 1.8, 0.5),
            .valueResidualRank: .init(32, 1.3, 0.5), .gateRank: .init(256, 1.7, 0.6),
        ],
        initialisers: hxa07Initialisers.merging([
            .valueResidualDown: .orthogonal(gain: 0.1), .valueResidualUp: .orthogonal(gain: 0.1),
        ]) { $1 },
        attentionUsesRoPE: false)

    private static let hxa07Initialisers: [TensorRole: Initialiser] = [
        .decayBase: .decayRampWithHeads, .decayDown: .orthogonal(gain: 0.1), .decayUp: .orthogonal(gain: 0.1),
        .iclrBase: .iclrRamp, .iclrDown: .orthogonal(gain: 0.1), .iclrUp: .orthogonal(gain: 0.1),
        .gateDown: .constant(0), .gateUp: .orthogonal(gain: 0.1),
        // These apply only if the teacher has no head norms.
        .receptanceNorm: .constant(1), .timeMixKeyNorm: .constant(1),
    ]
}

extension TimeMix7 {
    fileprivate static func of07Line(
        rotary: TimeMixSpec.Rotary, valueResidual: ValueResidual, keyScale: KeyScale
    ) -> TimeMix7 {
        TimeMix7(
            tokenShift: .none,
            headNorm: .sometimes,
            rotary: rotary,
            valueResidual: valueResidual,
            hasKeyResidual: false,
            removalKey: .key,
            keyScale: keyScale,
            outputNorm: .headScale,
            hasBonus: false,
            storesUnusedResiduals: false,
            hasRecords: true)
    }
}
