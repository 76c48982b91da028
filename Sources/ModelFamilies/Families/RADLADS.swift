import Bytes
import CheckpointJSON

// The students of RADLADS, which combine a teacher's body with time mixing that keeps the names of the teacher's
// projections. Switches in config.json select the stages.
extension Architecture {
    /// RAD-RWKV7, which combines a teacher's body with the time mixing of RWKV-7.
    ///
    /// Students have the stages of RADLADS' configs/qwerky7.yaml, or those that its class for Qwen3 assumes if the
    /// teacher has head norms. See RADLADS, rwkv7qwen2/modeling_rwkv7qwen2.py, rwkv7qwen3/modeling_rwkv7qwen3.py and
    /// models/qwen2.py, where the ranks and initialisers come from.
    public static let radRWKV7 = Architecture(
        family: "rwkv7qwen2",
        variant: "rad-rwkv7",
        configurationNames: ["rwkv7qwen2", "rwkv7qwen3", "rad-rwkv7"],
        body: radladsBody,
        attention: Attention(inputBias: .sometimes, outputBias: .sometimes, headNorm: .sometimes),
        timeMix: .rwkv7(
            TimeMix7(
                tokenShift: .none,
                headNorm: .sometimes,
                rotary: .teacher,
                valueResidual: .afterRepeat,
                hasKeyResidual: false,
                removalKey: .scaledKey,
                keyScale: .iclr,
                outputNorm: .groupNorm(.ofHeadSize),
                hasBonus: false,
                unusedRoles: [.removalKeyScale, .keyICLRMix, .bonus])),
        variableStages: VariableStages(
            roles: [
                .gateWeight, .gateDown, .gateUp, .groupNormWeight, .groupNormBias, .removalKeyScale, .keyICLRMix,
                .shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftICLR, .shiftGate, .bonus,
                .receptanceNorm,
            ],
            keys: radladsKeys,
            attentionKeys: radladsAttentionKeys,
            hiddenKeys: ["use_rope", "balance_state"],
            settle: { (timeMix, found, configuration) throws(CheckpointError) in
                guard case .rwkv7(var stages) = timeMix else { return }
                // RADLADS' first models have token shift and a bonus, and no switches. Later classes ignore use_tokenshift.
                let isFirst = found?.contains(.shiftReceptance) == true
                stages.tokenShift = isFirst ? .lerp : .none
                stages.hasBonus = isFirst
                stages.rotary = try configuration?.flag("use_rope") == true ? .teacher : .none
                stages.gate = try gate(found, configuration, assumed: 2)
                stages.outputNorm = try outputNorm(.ofHeadSize, found, configuration)
                let isBalanced = try configuration?.flag("balance_state") ?? !isFirst
                // The class for Qwen3, which has head norms, does not use k_k and k_a.
                let isOfQwen3 = configuration?.modelType == "rwkv7qwen3" || found?.contains(.receptanceNorm) == true
                let scales = !isBalanced && !isOfQwen3
                stages.removalKey = scales ? .scaledKey : .key
                stages.keyScale = isBalanced ? .oneMinusDecay : scales ? .iclr : .none
                timeMix = .rwkv7(stages)
            }, attentionLayers: radladsAttention),
        hasTeachersBody: true,
        layouts: [.radlads],
        configurations: [TensorLayout.radlads.name: radladsConfiguration],
        impliedSizes: [.valueResidualWidth: .attentionWidth],
        conversion: StudentRecipe(
            ranks: [
                .decayRank: .init(32, 1.8, 0.5), .iclrRank: .init(32, 1.8, 0.5),
                .valueResidualRank: .init(32, 1.3, 0.5),
                .gateRank: .init(32, 0.6, 0.8),
            ],
            ranksFollow: .width,
            initialisers: [
                .decayBase: .decayRamp, .decayDown: .constant(0), .decayUp: .orthogonal(gain: 0.1),
                .iclrBase: .constant(0), .iclrDown: .constant(0), .iclrUp: .orthogonal(gain: 0.1),
                .valueResidualBase: .constant(1), .valueResidualDown: .constant(0),
                .valueResidualUp: .orthogonal(gain: 0.1),
                .gateDown: .constant(0), .gateUp: .orthogonal(gain: 0.1),
                .removalKeyScale: .constant(0.85), .keyICLRMix: .constant(1), .bonus: .constant(0),
                .groupNormWeight: .constant(1), .groupNormBias: .constant(0),
            ],
            attentionUsesRoPE: true,
            refine: { timeMix, teacher in
                // The class for Qwen3 has head norms. It does not scale keys by k_k and k_a.
                let hasHeadNorms = teacher.tensors.contains { $0.role == .queryNorm }
                guard hasHeadNorms, case .rwkv7(var stages) = timeMix else { return }
                stages.removalKey = .key
                stages.keyScale = .oneMinusDecay
                stages.outputNorm = .headScale
                timeMix = .rwkv7(stages)
            }))

    /// RAD-RWKV6, which combines a teacher's body with time mixing whose recurrence is that of RWKV-6 without a bonus.
    ///
    /// Students have the stages of RADLADS' configs/qwerky6.yaml. See RADLADS, rwkv6qwen2/modeling_rwkv6qwen2.py and
    /// models/qwen2.py, where the ranks and initialisers come from.
    public static let radRWKV6 = Architecture(
        family: "rwkv6qwen2",
        variant: "rad-rwkv6",
        configurationNames: ["rwkv6qwen2", "rad-rwkv6"],
        body: radladsBody,
        attention: Attention(inputBias: .sometimes, outputBias: .sometimes, headNorm: .sometimes),
        timeMix: .rwkv6(
            TimeMix6(
                tokenShift: .dataDependent,
                decay: .clampedLowRank,
                inputBias: .sometimes,
                outputBias: .sometimes,
                sharesKeys: true,
                balancesKeys: true,
                hasBonus: false,
                outputNorm: .headScale,
                gate: .sigmoidProjection,
                shiftOrder: [.shiftReceptance, .shiftKey, .shiftValue, .shiftDecay, .shiftGate])),
        variableStages: VariableStages(
            roles: [
                .shiftInput, .shiftReceptance, .shiftKey, .shiftValue, .shiftDecay, .shiftGate, .shiftDown, .shiftUp,
                .gateWeight, .gateDown, .gateUp, .groupNormWeight, .groupNormBias,
            ],
            keys: radladsKeys,
            attentionKeys: radladsAttentionKeys,
            hiddenKeys: ["use_rope", "balance_state"],
            settle: { (timeMix, found, configuration) throws(CheckpointError) in
                guard case .rwkv6(var stages) = timeMix else { return }
                stages.rotary = try configuration?.flag("use_rope") == true ? .teacher : .none
                stages.gate = try gate(found, configuration, assumed: 1)
                stages.outputNorm = try outputNorm(.ofHeadSizeSquared, found, configuration)
                stages.balancesKeys = try configuration?.flag("balance_state") ?? true
                let shifts = try configuration?.flag("use_tokenshift") ?? found?.contains(.shiftInput) ?? true
                stages.tokenShift = shifts ? .dataDependent : .none
                timeMix = .rwkv6(stages)
            }, attentionLayers: radladsAttention),
        hasTeachersBody: true,
        layouts: [.radladsFinch],
        configurations: [TensorLayout.radladsFinch.name: radladsConfiguration],
        dimensionKeys: huggingFaceKeys.merging([.shiftRank: "lora_rank_tokenshift"]) { $1 },
        conversion: StudentRecipe(
            ranks: [.shiftRank: .init(32, 1.8, 0.5), .decayRank: .init(32, 1.8, 0.5)],
            ranksFollow: .width,
            initialisers: [
                .shiftInput: .constant(1), .shiftReceptance: .constant(0), .shiftKey: .constant(0),
                .shiftValue: .constant(0), .shiftDecay: .constant(0), .shiftGate: .constant(0),
                .shiftDown: .constant(0), .shiftUp: .uniform(bound: 0.01),
                .decayBase: .finchDecayRamp, .decayDown: .constant(0), .decayUp: .uniform(bound: 0.01),
                .gateWeight: .constant(0),
            ],
            attentionUsesRoPE: true))

    private static let radladsBody = DecoderBody(
        norm: .rms,
        feedForward: .gated(.silu),
        refine: qwenWindows,
        keys: qwenWindowKeys,
        assumedEpsilon: 1e-6,
        assumedTheta: 10000)

    private static let radladsKeys: Set<String> = [
        "use_rope", "gate_rank_type", "balance_state", "groupnorm_att", "use_tokenshift",
    ]

    private static let radladsAttentionKeys: Set<String> = [
        "num_attention_layers", "first_attention_layer", "first_post_attention_layer", "attention_striping",
        "last_striping_layer",
    ]

    private static let radladsConfiguration = ConfigurationTemplate(ofModel: { model in
        guard let timeMix = model.architecture.timeMix else { return [:] }
        var (type, name) = ("rwkv7qwen2", "RWKV7Qwen2ForCausalLM")
        var isBalanced = false
        switch timeMix {
        case .rwkv6(let stages):
            (type, name) = ("rwkv6qwen2", "RWKV6Qwen2ForCausalLM")
            isBalanced = stages.balancesKeys
        case .rwkv7(let stages):
            if model.optionalRoles.contains(.receptanceNorm) {
                (type, name) = ("rwkv7qwen3", "RWKV7Qwen3ForCausalLM")
            }
            isBalanced = stages.keyScale == .oneMinusDecay
        }
        let gate: [TimeMixSpec.Gate: Int] = [.none: 0, .sigmoidProjection: 1, .lowRank: 2]
        let attention = model.kinds.count(where: \.hasCache)
        var members: [String: JSONValue] = [
            "model_type": .string(ByteString(type)), "architectures": .array([.string(ByteString(name))]),
            "use_rope": .bool(timeMix.usesRoPE), "gate_rank_type": .integer(gate[timeMix.gate] ?? 0),
            "balance_state": .bool(isBalanced), "groupnorm_att": .bool(timeMix.hasGroupNorm),
            "use_tokenshift": .bool(timeMix.shiftsTokens),
            "attention_bias": .bool(!model.optionalRoles.isDisjoint(with: [.queryBias, .receptanceBias])),
            "attention_output_bias": .bool(
                !model.optionalRoles.isDisjoint(with: [.outputBias, .timeMixOutputBias])),
        ]
        // The published class of RAD-RWKV6 has no attention. Those of RAD-RWKV7 have it in the last layers; the class for
        // Qwen3 can also stripe it, which is not written.
        if type == "rwkv7qwen3" {
            members["first_attention_layer"] = .integer(model.kinds.count - attention)
        } else {
            members["num_attention_layers"] = .integer(attention)
        }
        if type == "rwkv6qwen2" ? attention > 0 : !model.kinds.suffix(attention).allSatisfy(\.hasCache) {
            members["transformer_layers"] = .array(
                model.kinds.indices.filter { model.kinds[$0].hasCache }.map { .integer($0) })
        }
        if attention > 0, !model.attentionUsesRoPE { members["nope_in_transformer"] = .bool(true) }
        return members
    })

    /// Returns the gate that `gate_rank_type` or the tensors select.
    private static func gate(
        _ found: Set<TensorRole>?, _ configuration: ModelConfiguration?, assumed: Int
    ) throws(CheckpointError) -> TimeMixSpec.Gate {
        let shown = found.map { $0.contains(.gateWeight) ? 1 : $0.contains(.gateDown) ? 2 : 0 }
        switch try configuration?.count("gate_rank_type", assumed: shown ?? assumed) ?? shown ?? assumed {
        case 0: return .none
        case 1: return .sigmoidProjection
        case 2: return .lowRank
        default:
            guard let configuration else { return .none }
            throw configuration.malformed("gate_rank_type", expected: "0, 1 or 2")
        }
    }

    /// Returns the norm that `groupnorm_att` or the tensors select.
    private static func outputNorm(
        _ epsilon: TimeMixSpec.GroupNormEpsilon, _ found: Set<TensorRole>?, _ configuration: ModelConfiguration?
    ) throws(CheckpointError) -> TimeMixSpec.OutputNorm {
        let hasNorm = try configuration?.flag("groupnorm_att") ?? found?.contains(.groupNormWeight) ?? false
        return hasNorm ? .groupNorm(epsilon) : .headScale
    }

    /// Returns the attention layers: the last ones, or those that the class for Qwen3 selects.
    @Sendable
    private static func radladsAttention(
        _ configuration: ModelConfiguration, _ count: Int
    ) throws(CheckpointError) -> Set<Int>? {
        func isSet(_ key: String) -> Bool { configuration.root[key].map { $0 != .null } ?? false }
        if isSet("num_attention_layers") {
            let attention = try configuration.count("num_attention_layers", assumed: 0)
            return Set(max(0, count - attention)..<count)
        }
        guard isSet("first_attention_layer") else { return nil }
        let first = try configuration.count("first_attention_layer", assumed: 9999)
        let end = try configuration.count("first_post_attention_layer", assumed: 9999)
        let stride = max(1, try configuration.count("attention_striping", assumed: 1))
        let last = try configuration.count("last_striping_layer", assumed: 99999)
        return Set(
            (0..<count).filter { layer in
                first..<max(first, end) ~= layer
                    && (layer > min(count, last) || (min(count - 1, end, last) - layer) % stride == 0)
            })
    }
}
