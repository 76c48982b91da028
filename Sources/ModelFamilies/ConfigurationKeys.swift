package import Bytes
import CheckpointJSON

// A family treats a config.json key in one of four ways: it understands the key, the key is harmless, the key can
// change the equations of some family, or the key is unknown. The lists of keys come from transformers 5.24
// (configuration_utils.py and the configuration of each family).

extension Architecture {
    /// The config.json keys that belong to the family's body, as byte strings.
    package var bodyKeys: Set<ByteString> { Set(body.keys.map { ByteString($0) }) }

    /// The config.json keys that name a student's variant, its attention layers and its use of RoPE.
    ///
    /// A student's config.json contains only those keys that describe its own layers.
    package var layerKeys: Set<ByteString> {
        var keys: Set<ByteString> = [
            "rwkv_architecture", "transformer_layers", "rwkv_layers", "nope_in_transformer", "nope_in_rwkv",
        ]
        if let variableStages { keys.formUnion(variableStages.attentionKeys.map { ByteString($0) }) }
        return keys
    }

    /// The config.json keys that this family understands.
    var understoodKeys: Set<ByteString> {
        var named = body.keys.union(biasKeys).union(dimensionKeys.values).union([body.epsilonKey, body.activationKey])
        if let key = body.logitSoftcap?.key { named.insert(key) }
        if let variableStages { named.formUnion(variableStages.keys) }
        var understood: Set<ByteString> = [
            "model_type", "num_hidden_layers", "tie_word_embeddings", "quantization_config", "text_config",
            "max_position_embeddings",
        ]
        understood.formUnion(named.map { ByteString($0) })
        if attention != nil || hasTeachersBody {
            understood.formUnion([
                "rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
            ])
        }
        if hasTeachersBody {
            understood.formUnion(layerKeys)
            understood.formUnion([
                "teacher_model_type", "first_values", "rwkv_rope_scaling", "enable_qk_norm", "attention_bias",
                "attention_output_bias",
            ])
        }
        return understood
    }
}

extension ModelConfiguration {
    /// Keys that do not affect the equations.
    static let harmlessKeys: Set<ByteString> = [
        // Tokens.
        "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "boi_token_id",
        "eoi_token_id", "image_token_id", "boi_token_index", "eoi_token_index", "image_token_index",
        "mm_tokens_per_image", "tokenizer_class", "vision_config",
        // Generation and output.
        "assistant_confidence_threshold", "assistant_lookbehind", "bad_words_ids", "begin_suppress_tokens",
        "cache_implementation", "compile_config", "diversity_penalty", "do_sample", "early_stopping",
        "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
        "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
        "keys_to_ignore_at_inference", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "num_beam_groups", "num_beams",
        "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores",
        "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate", "suppress_tokens",
        "target_lookbehind", "temperature", "tie_last_hidden_states", "top_k", "top_p", "typical_p", "use_cache",
        "use_return_dict",
        // Training and initialisation.
        "attention_dropout", "classifier_dropout", "embd_pdrop", "fuse_cross_entropy", "fuse_linear_cross_entropy",
        "gradient_checkpointing", "hidden_dropout", "init_std", "initializer_factor", "initializer_range",
        "resid_pdrop", "use_l2warp",
        // Dtypes.
        "dtype", "torch_dtype", "use_bfloat16",
        // Classification.
        "finetuning_task", "id2label", "label2id", "num_labels", "problem_type", "task_specific_params",
        "token_classification_bias",
        // Bookkeeping.
        "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_commit_hash",
        "_name_or_path", "_sliding_window_pattern", "allow_global_per_layer_attribute_access", "architectures",
        "attn_implementation", "attn_mode", "attribute_map", "auto_map", "base_config_key", "base_model_ep_plan",
        "base_model_fsdp_plan", "base_model_pp_plan", "base_model_tp_plan", "default_rope_type", "default_theta",
        "distributed_config", "experts_implementation", "extra_config_files", "extra_files", "fusion_config",
        "ignore_keys_at_rope_validation", "is_heterogeneous", "name_or_path", "per_layer_attributes",
        "serialize_explicit_per_layer_config", "sub_configs", "sub_configs_defaults", "tf_legacy_loss", "torchscript",
        "transformers_version", "xla_device",
        // Keys of the base class that no decoder here reads.
        "attention_chunk_size", "chain_hidden_post_norm", "chunk_size_feed_forward", "is_decoder",
        "is_encoder_decoder", "kv_sharing_modes", "logits_mup_width_multiplier", "mtp_hidden_states_first",
        "number_of_conv_states", "pretraining_tp", "unpadded_vocab_size",
        // Keys in published files that no decoder here reads. They come from vLLM (dual_chunk_attention_config), from
        // unsloth, and from older classes.
        "dual_chunk_attention_config", "is_composition", "max_sequence_length", "sliding_window_size", "unsloth_fixed",
        "unsloth_version",
    ]

    /// Keys that can change the equations, in addition to the keys that at least one family understands.
    static let otherEquationKeys: Set<ByteString> = [
        "add_cross_attention", "alibi", "attention_multiplier", "attention_out_bias", "attn", "clip_qkv",
        "embedding_multiplier", "first_k_dense_replace", "full_attn_mod", "interpolate_factor", "is_causal",
        "kv_lora_rank", "lm_head_bias", "logit_scale", "logits_scaling", "mlp_bias", "mlp_only_layers",
        "moe_intermediate_size", "n_routed_experts", "no_rope_layer_interval", "no_rope_layers", "num_experts",
        "num_experts_per_tok", "num_local_experts", "parallel_attn", "per_layer_config", "pruned_heads", "q_lora_rank",
        "qk_norm", "residual_multiplier", "tie_encoder_decoder", "transformers_weights",
        "use_bidirectional_attention", "use_bonus", "use_k_first", "use_mrope", "use_parallel_residual", "use_qk_norm",
        "v_first_pre_gqa",
    ]

    /// The way in which a family treats a config.json key.
    enum KeyKind: Hashable {
        case understood
        case harmless
        /// The key can change the equations of some family, so it is accepted only with a value that leaves them
        /// unchanged.
        case changesEquations
        case unknown
    }

    /// The keys that at least one family understands.
    private static let understoodByAny = ArchitectureRegistry.standard.reduce(into: Set<ByteString>()) {
        $0.formUnion($1.understoodKeys)
    }

    /// Returns how a family treats a key, given the keys that the family understands.
    static func kind(of key: ByteString, understood: Set<ByteString>) -> KeyKind {
        if understood.contains(key) { return .understood }
        if harmlessKeys.contains(key) { return .harmless }
        return otherEquationKeys.contains(key) || understoodByAny.contains(key) ? .changesEquations : .unknown
    }

    /// Returns the config.json keys whose effect is not known, in byte order.
    func unknownKeys(in architecture: Architecture) -> [String] {
        let understood = architecture.understoodKeys
        return members.map(\.key).filter { Self.kind(of: $0, understood: understood) == .unknown }.map(\.text)
    }

    private var members: [(key: ByteString, value: JSONValue)] {
        guard case .object(let members) = root else { return [] }
        return members.sorted { $0.key < $1.key }
    }

    /// Returns the config.json keys whose values require equations that are not implemented for an architecture.
    package func undescribed(
        in architecture: Architecture, _ rotations: Set<RotaryEmbedding>
    ) -> [(key: String, value: String)] {
        var found: [(key: String, value: String)] = []
        let understood = architecture.understoodKeys
        for (key, value) in members where Self.kind(of: key, understood: understood) == .changesEquations {
            if !isNeutral(key, value) { found.append((key.text, value.description)) }
        }
        func refuse(_ key: String, unless isKnown: (JSONValue) -> Bool) {
            if let value = root[key], value != .null, !isKnown(value) { found.append((key, value.description)) }
        }
        let parts = rotations.compactMap { $0.parameters["partial_rotary_factor"] }
        if let part = parts.max(), !architecture.body.keys.contains("partial_rotary_factor"),
            root["partial_rotary_factor"] == nil
        {
            found.append(("partial_rotary_factor", "\(part)"))
        }
        for type in Set(rotations.map(\.type)).subtracting(RotaryEmbedding.knownTypes).sorted() {
            found.append(("rope_type", type.text))
        }
        refuse("teacher_model_type") { _ in architecture.teacherFamily != nil }
        if architecture.timeMix?.usesRoPE == true { refuse("nope_in_rwkv") { $0 != .bool(true) } }
        // The epsilon of the group norm is 1e-5 times the square of this number.
        if case .groupNorm(.standard)? = architecture.timeMix?.outputNorm {
            refuse("head_size_divisor") { $0 == .integer(8) }
        }
        let values = architecture.variableStages?.implementedValues ?? [:]
        for (key, value) in values.merging(architecture.body.implementedValues, uniquingKeysWith: { $1 }) {
            refuse(key) { $0 == value || ($0.double != nil && $0.double == value.double) }
        }
        switch architecture.body.feedForward {
        case .gated:
            refuse(architecture.body.activationKey) { value in
                FeedForwardSpec.Activation.allCases.contains { .string(ByteString($0.rawValue)) == value }
            }
        case .channelMix: refuse("hidden_act") { $0 == .string("sqrelu") }
        }
        return found
    }

    /// Returns whether a key that can change equations has a value that leaves them unchanged.
    private func isNeutral(_ key: ByteString, _ value: JSONValue) -> Bool {
        switch key {
        // In transformers, null makes attention bidirectional.
        case "is_causal": value == .bool(true)
        case "layer_types":
            value == .null
                || value.array?.allSatisfy { $0 == .string("full_attention") || $0 == .string("attention") } == true
        case "sliding_window" where value != .null:
            // A window that is at least as long as the model's context has no effect.
            root["use_sliding_window"] == .bool(false)
                || (value.integer ?? 0) >= (root["max_position_embeddings"]?.integer ?? .max)
        case "max_window_layers": root["use_sliding_window"] != .bool(true)
        default:
            [.null, .bool(false), .integer(1), .number(1), .string("default"), .array([]), .object([:])].contains(value)
        }
    }
}
