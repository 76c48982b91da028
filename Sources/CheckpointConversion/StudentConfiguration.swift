import Bytes
import CheckpointFiles
import CheckpointJSON
import LayerPlanning
import ModelFamilies

extension ConversionBuilder {
    /// Returns the contents of the result's config.json; nil if the result is a single file, or if neither an input nor
    /// the layout provides a config.json.
    func configuration(
        of model: ModelDescription?, plan: LayerPlan?
    ) throws(CheckpointError) -> [UInt8]? {
        guard case .directory = options.destination else { return nil }
        let own = inputs[.source]?.configuration ?? inputs[.teacher]?.configuration
        var members: [ByteString: JSONValue] = [:]
        if case .object(let object) = own?.root { members = object }
        // The config.json of a student without attention can lack keys that the teacher's attention needs, so copy them
        // from the teacher's.
        if let model, model.hasNonLlamaBody, plan != nil,
            case .object(let teachers)? = inputs[.teacher]?.configuration?.root
        {
            for key in model.architecture.bodyKeys where members[key] == nil { members[key] = teachers[key] }
        }
        // `layout` is nil if the conversion keeps the tensor names.
        if let model, let layout, let template = model.architecture.configurations[layout.name],
            !model.architecture.hasTeachersBody
        {
            members = try model.configuration(template, path: options.destination.path)
        } else if let model, layout?.name == TensorLayout.huggingFace.name, model.architecture.hasTeachersBody {
            try model.describe(in: &members, plan, path: options.destination.path)
        } else if let own {
            // Keep the existing config.json, including the parts that describe a larger model, and change only the
            // dtype.
            if case .object(let whole) = own.whole { members = whole }
            // The user can name another variant with the same tensors than config.json does.
            if let model, let variant = model.variant, own.namesStudent, !model.isNamed(by: own) {
                members["rwkv_architecture"] = .string(ByteString(variant))
            } else if options.dtype == nil, options.roleDTypes.isEmpty {
                return try document(own.path)
            }
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

    /// torch's name for the floating-point dtype that most elements have; nil if no tensor is of a floating-point type.
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
    private func size(_ dimension: ModelDimension, path: String) throws(CheckpointError) -> JSONValue {
        guard let size = dimensions[dimension] else {
            throw CheckpointError(
                .unsupported, path: path,
                "the result's config.json needs a value that is not known: \(dimension.title)",
                advice: "use --config to pass a config.json that sets it")
        }
        return .integer(size)
    }

    /// Changes a teacher's config.json so that it describes the student.
    fileprivate func describe(
        in members: inout [ByteString: JSONValue], _ plan: LayerPlan?, path: String
    ) throws(CheckpointError) {
        if let unknown = unknown.first {
            throw CheckpointError(
                .unsupported, path: path, "the result's config.json needs a value that is not known: \(unknown)",
                advice: "use --config to pass a config.json that sets it")
        }
        if hasNonLlamaBody {
            members["teacher_model_type"] = architecture.teacherFamily.map { .string(ByteString($0)) }
        }
        // Copy the RoPE scaling from the teacher's config.json, so that its values stay exactly the same.
        var scaling: [ByteString: JSONValue] = [:]
        for key: ByteString in ["rope_parameters", "rope_scaling"] {
            if case .object(let object) = members[key] { scaling.merge(object) { $1 } }
        }
        scaling["rope_theta"] = nil
        // These keys would make libraries load the student as its teacher. RoPE settings are written below.
        for key: ByteString in ["model_type", "architectures", "auto_map"] { members[key] = nil }
        for key in architecture.layerKeys { members[key] = nil }
        if !hasNonLlamaBody {
            for key: ByteString in ["layer_types", "rope_parameters"] { members[key] = nil }
            // Remove settings that no longer apply to any layer, such as a sliding window.
            let document = ModelConfiguration(path: path, root: .object(members))
            let plain = ArchitectureRegistry.target(named: variant ?? "") ?? architecture
            for (key, _) in document.undescribed(in: plain, []) { members[ByteString(key)] = nil }
        }
        for (dimension, key) in architecture.dimensionKeys {
            if architecture.timeMix?.ranks.contains(dimension) ?? true || !ModelDimension.ranks.contains(dimension) {
                members[ByteString(key)] = try size(dimension, path: path)
            }
        }
        if let template = architecture.configurations[TensorLayout.huggingFace.name] {
            for (key, value) in template.members.merging(template.ofModel(self), uniquingKeysWith: { $1 }) {
                members[ByteString(key)] = value
            }
        } else {
            describeLayers(in: &members)
        }
        members["num_hidden_layers"] = .integer(layers.count)
        members["tie_word_embeddings"] = .bool(hasTiedHead)
        members[ByteString(architecture.body.epsilonKey)] = epsilon.map { .number($0) }
        // A model whose body differs from Llama's keeps its family's RoPE keys. Theta is written only if there are
        // none.
        if let rotary, hasNonLlamaBody, members["rope_theta"] == nil, members["rope_parameters"] == nil {
            members["rope_theta"] = .number(rotary.theta)
        }
        if let rotary, !hasNonLlamaBody {
            members["rope_theta"] = .number(rotary.theta)
            members["rope_scaling"] = rotary.type == "default" ? .null : .object(scaling)
        }
        if let plan { members.merge(plan.switches.configuration) { $1 } }
    }

    /// Adds the keys of RWKVInside's Hugging Face format that describe the layers and their mixers.
    private func describeLayers(in members: inout [ByteString: JSONValue]) {
        members["rwkv_architecture"] = .string(ByteString(variant ?? ""))
        if let name = architecture.transformersClass { members["architectures"] = .array([.string(ByteString(name))]) }
        let attention = layers.indices.filter { layers[$0].kind.hasCache }
        members["transformer_layers"] = .array(attention.map { .integer($0) })
        members["rwkv_layers"] = .array(layers.indices.filter { layers[$0].kind.carriesState }.map { .integer($0) })
        members["attention_bias"] = .bool(
            !optionalRoles.isDisjoint(with: [.queryBias, .receptanceBias]))
        members["attention_output_bias"] = .bool(!optionalRoles.isDisjoint(with: [.outputBias, .timeMixOutputBias]))
        members["enable_qk_norm"] = .bool(optionalRoles.contains(.receptanceNorm))
        members["nope_in_transformer"] = .bool(!attentionUsesRoPE)
        members["nope_in_rwkv"] = .bool(architecture.timeMix?.usesRoPE != true)
    }

    /// Returns the members of the config.json that the family's own class reads.
    fileprivate func configuration(
        _ template: ConfigurationTemplate, path: String
    ) throws(CheckpointError) -> [ByteString: JSONValue] {
        var members = template.members.reduce(into: [ByteString: JSONValue]()) { $0[ByteString($1.key)] = $1.value }
        members["tie_word_embeddings"] = .bool(hasTiedHead)
        members["num_hidden_layers"] = .integer(layers.count)
        members[ByteString(architecture.body.epsilonKey)] = epsilon.map { .number($0) }
        for (dimension, key) in architecture.dimensionKeys.merging(template.moreSizes, uniquingKeysWith: { $1 }) {
            members[ByteString(key)] = try size(dimension, path: path)
        }
        return members
    }
}

extension LayerPlan.Switches {
    /// The members of config.json for the switches that no other member describes.
    var configuration: [ByteString: JSONValue] {
        [
            "rwkv_rope_scaling": .string(usesTeachersScaling ? "teacher" : "none"),
            "first_values": .string(ByteString(firstValues.rawValue)),
        ]
    }
}
