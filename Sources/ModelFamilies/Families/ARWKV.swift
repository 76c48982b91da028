import Bytes
import CheckpointJSON

extension Architecture {
    /// ARWKV, which combines Qwen2's body with the whole time mixing of RWKV-7, with or without gate and group norm.
    ///
    /// It does not use the teacher's projections. See RWKVInside by yynil, rwkv_inside/TimeMixer.py at f3b3dbd.
    public static let arwkv = arwkv("arwkv", gate: .lowRank)

    /// The variant of ARWKV that adds 1 to the gate, as the training code does from commit 2863300 on.
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
                // Keys of the teacher's attention, which have no effect.
                keys: qwenWindowKeys.union(["num_attention_heads", "num_key_value_heads", "head_dim"]),
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
                    gate: gate)),
            variableStages: VariableStages(
                roles: [.gateDown, .gateUp, .shiftGate, .groupNormWeight, .groupNormBias],
                keys: ["wkv_has_gate", "wkv_has_group_norm", "wkv_layers", "wkv_version", "head_size_divisor"],
                hiddenKeys: [],
                implementedValues: ["wkv_version": .integer(7), "wkv_layers": .string("full")],
                settle: { (timeMix, found, configuration) throws(CheckpointError) in
                    guard case .rwkv7(var stages) = timeMix else { return }
                    let hasGate = try configuration?.flag("wkv_has_gate") ?? found?.contains(.gateDown) ?? false
                    if !hasGate { stages.gate = .none }
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
                TensorLayout.arwkv.name: ConfigurationTemplate(
                    members: [
                        "model_type": .string("rwkv_hybrid"), "architectures": .array([.string("RwkvHybridForCausalLM")]),
                        "head_size_divisor": .integer(8), "wkv_version": .integer(7),
                    ].merging(indistinguishableVariants.isEmpty ? [:] : ["rwkv_architecture": .string(ByteString(name))]) {
                        $1
                    },
                    ofModel: { model in
                        guard let timeMix = model.architecture.timeMix else { return [:] }
                        return [
                            "wkv_has_gate": .bool(timeMix.gate != .none),
                            "wkv_has_group_norm": .bool(timeMix.hasGroupNorm),
                        ]
                    })
            ],
            dimensionKeys: [
                .vocabulary: "vocab_size", .width: "hidden_size", .heads: "num_wkv_heads", .headSize: "head_size",
                .feedForwardWidth: "intermediate_size",
            ],
            impliedSizes: [
                .attentionWidth: .width, .keyValueWidth: .attentionWidth, .valueResidualWidth: .attentionWidth,
            ],
            indistinguishableVariants: indistinguishableVariants)
    }
}
