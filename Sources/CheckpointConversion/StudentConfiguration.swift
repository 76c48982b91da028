import CheckpointFiles
import CheckpointJSON
import LayerPlanning
import ModelFamilies

extension ConversionBuilder {
    /// Builds the result's config.json; nil for a single file, or if neither a config.json nor the layout provides one.
    func configuration(
        of model: ModelDescription?, plan: LayerPlan?
    ) throws(CheckpointError) -> [UInt8]? {
        guard case .directory = options.destination else { return nil }
        let own = inputs[.source]?.configuration ?? inputs[.teacher]?.configuration
        var members: [ByteString: JSONValue] = [:]
        if case .object(let object) = own?.root { members = object }
        // The config.json of a student without attention omits what its teacher's attention needs.
        if let model, model.hasNonLlamaBody, plan != nil,
            case .object(let teachers)? = inputs[.teacher]?.configuration?.root
        {
            for key in model.architecture.bodyKeys where members[key] == nil { members[key] = teachers[key] }
        }
        // The layout is nil if names are kept.
        if let model, layout?.name == TensorLayout.fla.name {
            members = try model.flaConfiguration(path: options.destination.path)
        } else if let model, layout?.name == TensorLayout.huggingFace.name, model.architecture.timeMix != nil {
            try model.describe(in: &members, plan, path: options.destination.path)
        } else if let own {
            // Use the source's config.json with another dtype, and in full if the model is part of a larger one.
            if case .object(let whole) = own.whole { members = whole }
            if options.dtype == nil, options.roleDTypes.isEmpty { return try document(own.path) }
        } else {
            return nil
        }
        if let dtype = mostCommonDType {
            let key: ByteString = members["dtype"] == nil ? "torch_dtype" : "dtype"
            members[key] = .string(ByteString(dtype))
        }
        return ByteOutput.bytes { output in
            // Writing to memory cannot fail.
            try? JSONWriter.document(to: output) { $0.members(members) }
        }
    }

    /// torch's name for the floating-point dtype that most elements have.
    private var mostCommonDType: String? {
        var counts: [DType: Int] = [:]
        for tensor in tensors where tensor.output.dtype.floatElement != nil {
            counts[tensor.output.dtype, default: 0] += tensor.output.byteCount * 8 / tensor.output.dtype.bitWidth
        }
        let most = counts.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key
        return most?.torchName
    }

}

extension ModelDescription {
    private func size(_ dimension: Dimension, path: String) throws(CheckpointError) -> JSONValue {
        guard let size = dimensions[dimension] else {
            throw CheckpointError(
                .unsupported, path: path,
                "the result's config.json needs a value that is not known: \(dimension.title)",
                advice: "give a config.json that sets it with --config")
        }
        return .integer(size)
    }

    /// Updates a teacher's config.json to describe its student, using the keys of RWKVInside's Hugging Face format.
    fileprivate func describe(
        in members: inout [ByteString: JSONValue], _ plan: LayerPlan?, path: String
    ) throws(CheckpointError) {
        if let unknown = unknown.first {
            throw CheckpointError(
                .unsupported, path: path, "the result's config.json needs a value that is not known: \(unknown)",
                advice: "give a config.json that sets it with --config")
        }
        if hasNonLlamaBody {
            members["teacher_model_type"] = architecture.teacherFamily.map { .string(ByteString($0)) }
        }
        // Copy the scaling exactly as the teacher's config.json has it, numbers included.
        var scaling: [ByteString: JSONValue] = [:]
        for key: ByteString in ["rope_parameters", "rope_scaling"] {
            if case .object(let object) = members[key] { scaling.merge(object) { $1 } }
        }
        scaling["rope_theta"] = nil
        // The teacher's names would make the student load as the teacher; its RoPE is written below.
        for key: ByteString in ["model_type", "architectures", "auto_map"] { members[key] = nil }
        if !hasNonLlamaBody {
            for key: ByteString in ["layer_types", "rope_parameters"] { members[key] = nil }
            // Remove settings that no layer has any more, such as a window.
            let document = ModelConfiguration(path: path, root: .object(members))
            let plain = ArchitectureRegistry.target(named: variant ?? "") ?? architecture
            for (key, _) in document.undescribed(in: plain, []) { members[ByteString(key)] = nil }
        }
        for (dimension, key) in architecture.dimensionKeys {
            if architecture.timeMix?.ranks.contains(dimension) ?? true || !Dimension.ranks.contains(dimension) {
                members[ByteString(key)] = try size(dimension, path: path)
            }
        }
        members["rwkv_architecture"] = .string(ByteString(variant ?? ""))
        if let name = architecture.transformersClass { members["architectures"] = .array([.string(ByteString(name))]) }
        members["num_hidden_layers"] = .integer(layers.count)
        let attention = layers.indices.filter { layers[$0].kind.hasCache }
        members["transformer_layers"] = .array(attention.map { .integer($0) })
        members["rwkv_layers"] = .array(layers.indices.filter { layers[$0].kind.carriesState }.map { .integer($0) })
        members["tie_word_embeddings"] = .bool(hasTiedHead)
        members["attention_bias"] = .bool(
            !optionalRoles.isDisjoint(with: [.queryBias, .receptanceBias]))
        members["attention_output_bias"] = .bool(!optionalRoles.isDisjoint(with: [.outputBias, .timeMixOutputBias]))
        members["enable_qk_norm"] = .bool(optionalRoles.contains(.receptanceNorm))
        members["nope_in_transformer"] = .bool(!attentionUsesRoPE)
        members["nope_in_rwkv"] = .bool(architecture.timeMix?.rotary != .teacher)
        members[ByteString(architecture.body.epsilonKey)] = epsilon.map { .number($0) }
        // A body that is not Llama's keeps its family's RoPE keys; theta is written only if there are none.
        if let rotary, hasNonLlamaBody, members["rope_theta"] == nil, members["rope_parameters"] == nil {
            members["rope_theta"] = .number(rotary.theta)
        }
        if let rotary, !hasNonLlamaBody {
            members["rope_theta"] = .number(rotary.theta)
            members["rope_scaling"] = rotary.type == "default" ? .null : .object(scaling)
        }
        if let plan { members.merge(plan.switches.configuration) { $1 } }
    }

    /// Returns the members of flash-linear-attention's config.json for RWKV-7.
    fileprivate func flaConfiguration(path: String) throws(CheckpointError) -> [ByteString: JSONValue] {
        var members: [ByteString: JSONValue] = [
            "architectures": .array([.string("RWKV7ForCausalLM")]), "model_type": .string("rwkv7"),
            // The fused kernels normalise removal keys with a different epsilon.
            "fuse_norm": .bool(false), "norm_bias": .bool(true), "norm_first": .bool(true),
            "hidden_act": .string("sqrelu"), "tie_word_embeddings": .bool(hasTiedHead),
            "num_hidden_layers": .integer(layers.count),
            "norm_eps": .number(epsilon ?? 1e-5), "attn_mode": .string("chunk"), "attn": .null,
        ]
        for (dimension, key) in architecture.dimensionKeys {
            members[ByteString(key)] = try size(dimension, path: path)
        }
        members["num_heads"] = try size(.heads, path: path)
        return members
    }
}

extension LayerPlan.Switches {
    /// The config.json keys for switches that no other key expresses.
    var configuration: [ByteString: JSONValue] {
        [
            "rwkv_rope_scaling": .string(usesTeachersScaling ? "teacher" : "none"),
            "first_values": .string(ByteString(firstValues.rawValue)),
        ]
    }
}
