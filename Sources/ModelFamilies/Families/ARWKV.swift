import Bytes
import CheckpointJSON

extension Architecture {
    /// ARWKV, which combines Qwen2's body with the whole time mixing of RWKV-7, with or without gate and group norm.
    ///
    /// Students have neither, like the configurations that RWKVInside publishes for ARWKV. See RWKVInside by yynil,
    /// rwkv_inside/TimeMixer.py at f3b3dbd.
    public static let arwkv = arwkv("arwkv", gate: .lowRank)

    /// The variant of ARWKV that adds 1 to the gate, as the training code does from commit 2863300 on.
    ///
    /// A student's gate is 1 at first.
    public static let arwkvOnePlusGate = arwkv(
        "arwkv-1g", gate: .onePlusLowRank, indistinguishableVariants: ["arwkv"])

    private static func arwkv(
        _ name: String, gate: TimeMixSpec.Gate, indistinguishableVariants: [String] = []
    ) -> Architecture {
        Architecture(
            family: "rwkv_hybrid",
            variant: name,
            configurationNames: indistinguishableVariants.isEmpty ? ["rwkv_hybrid", name] : [name],
            body: DecoderBody(
                norm: .rms,
                feedForward: .gated(.silu),
                keys: qwenWindowKeys,
                assumedEpsilon: 1e-6,
                assumedTheta: 10000),
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
                    outputNorm: .none,
                    gate: gate == .onePlusLowRank ? gate : .none)),
            variableStages: VariableStages(
                roles: [.gateDown, .gateUp, .shiftGate, .groupNormWeight, .groupNormBias],
                // Keys of the teacher's attention have no effect.
                keys: [
                    "wkv_has_gate", "wkv_has_group_norm", "wkv_layers", "wkv_version", "head_size_divisor",
                    "num_attention_heads", "num_key_value_heads", "head_dim",
                ],
                hiddenKeys: [],
                implementedValues: ["wkv_version": .integer(7), "wkv_layers": .string("full")],
                settle: { (timeMix, found, configuration) throws(CheckpointError) in
                    guard case .rwkv7(var stages) = timeMix else { return }
                    let hasGate = try configuration?.flag("wkv_has_gate") ?? found?.contains(.gateDown) ?? false
                    stages.gate = hasGate ? gate : .none
                    let hasNorm =
                        try configuration?.flag("wkv_has_group_norm") ?? found?.contains(.groupNormWeight) ?? false
                    stages.outputNorm = hasNorm ? .groupNorm(.standard) : .none
                    timeMix = .rwkv7(stages)
                }),
            hasTeachersBody: true,
            layouts: [
                .arwkv, .rwkvInfer.namingStages(in: "blocks.#.att."),
                .rwkvInside.namingStages(in: "model.model.layers.#.self_attn.student_attn."),
            ],
            configurations: [
                TensorLayout.arwkv.name: ConfigurationTemplate(ofModel: { model in
                    var members: [String: JSONValue] = [
                        "model_type": .string("rwkv_hybrid"),
                        "architectures": .array([.string("RwkvHybridForCausalLM")]),
                        "head_size_divisor": .integer(8), "wkv_version": .integer(7),
                        "wkv_has_gate": .bool(model.architecture.timeMix?.gate != TimeMixSpec.Gate.none),
                        "wkv_has_group_norm": .bool(model.architecture.timeMix?.hasGroupNorm == true),
                    ]
                    if !indistinguishableVariants.isEmpty {
                        members["rwkv_architecture"] = .string(ByteString(name))
                    }
                    return members
                })
            ],
            dimensionKeys: [
                .vocabulary: "vocab_size", .width: "hidden_size", .heads: "num_wkv_heads", .headSize: "head_size",
                .feedForwardWidth: "intermediate_size",
            ],
            impliedSizes: [
                .attentionWidth: .width, .keyValueWidth: .attentionWidth, .valueResidualWidth: .attentionWidth,
            ],
            indistinguishableVariants: indistinguishableVariants,
            conversion: StudentRecipe(
                ranks: [
                    .decayRank: .init(64), .iclrRank: .init(64), .valueResidualRank: .init(32), .gateRank: .init(128),
                ].filter { $0.key != .gateRank || gate == .onePlusLowRank },
                initialisers: [
                    .receptanceWeight: .linear, .timeMixKeyWeight: .linear, .timeMixValueWeight: .linear,
                    .timeMixOutputWeight: .linear,
                    .shiftReceptance: .shiftRamp(exponent: 0.2), .shiftDecay: .shiftRamp(exponent: 0.9),
                    .shiftKey: .keyShiftRamp, .shiftValue: .valueShiftRamp, .shiftICLR: .shiftRamp(exponent: 0.9),
                    .shiftGate: .constant(1),
                    .decayBase: .decayRamp, .decayDown: .constant(0), .decayUp: .orthogonal(gain: 0.1),
                    .iclrBase: .constant(0), .iclrDown: .constant(0), .iclrUp: .orthogonal(gain: 0.1),
                    .valueResidualBase: .constant(1), .valueResidualDown: .constant(0),
                    .valueResidualUp: .orthogonal(gain: 0.1),
                    .gateDown: .constant(0), .gateUp: .constant(0),
                    .removalKeyScale: .constant(0.85), .keyICLRMix: .constant(1), .bonus: .constant(0),
                ].filter { $0.key != .shiftGate || gate == .onePlusLowRank },
                attentionUsesRoPE: false,
                note: "the teacher's query, key, value and output projections are not copied",
                copiesProjections: false,
                headSize: 64))
    }
}
