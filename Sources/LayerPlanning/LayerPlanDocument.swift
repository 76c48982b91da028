public import CheckpointFiles
public import CheckpointJSON
public import ModelFamilies

extension LayerPlan {
    private static let schema = "rwkv-ckpt/plan/1"

    // MARK: Writing

    /// Writes the plan as one JSON document that matches schemas/plan.schema.json, with memory use at `context` tokens.
    ///
    /// - Throws: any error that `output` throws.
    public func writeJSON(to output: consuming ByteOutput, context: Int) throws {
        var json = JSONWriter(output)
        json.beginObject()
        json.key("schema")
        json.value(Self.schema)
        json.key("target")
        json.value(target)
        json.key("teacher")
        json.beginObject(onOneLine: true)
        json.key("family")
        json.value(teacher.family)
        json.key("identity")
        json.value(teacher.identity)
        json.end()
        json.key("layers")
        json.beginArray()
        for (index, layer) in layers.enumerated() {
            json.beginObject(onOneLine: true)
            json.key("index")
            json.value(index)
            json.key("kind")
            json.value(layer.kind.rawValue)
            json.key("reason")
            json.value(layer.reason)
            json.end()
        }
        json.end()
        json.key("switches")
        json.beginObject()
        json.key("gqa_rope")
        json.value(switches.attentionUsesRoPE)
        json.key("rwkv_rope")
        json.value(switches.timeMixingUsesRoPE)
        json.key("rwkv_rope_scaling")
        json.value(switches.usesTeachersScaling ? "teacher" : "none")
        json.key("first_values")
        json.value(switches.firstValues.rawValue)
        json.key("head_norm")
        json.value(switches.normalisesHeads)
        json.key("tied_head")
        json.value(switches.tiesHead)
        json.end()
        json.key("ranks")
        json.beginObject(onOneLine: true)
        for dimension in Dimension.ranks {
            guard let rank = ranks[dimension] else { continue }
            json.key(text: dimension.key)
            json.value(rank)
        }
        json.end()
        json.key("initialisers")
        json.beginObject()
        for role in TensorRole.all {
            guard let initialiser = initialisers[role] else { continue }
            json.key(text: role.rawValue)
            json.beginObject(onOneLine: true)
            json.key("kind")
            json.value(initialiser.name)
            if let value = initialiser.value {
                json.key("value")
                json.value(value)
            }
            json.end()
        }
        json.end()
        json.key("seed")
        json.value(seed)
        json.key("projection_factors")
        json.beginObject(onOneLine: true)
        for (key, factor) in [
            ("receptance" as StaticString, projectionFactors.receptance), ("key", projectionFactors.key),
            ("value", projectionFactors.value), ("output", projectionFactors.output),
        ] {
            json.key(key)
            json.value(factor)
        }
        json.end()
        if !dropped.isEmpty {
            json.key("dropped")
            json.beginArray()
            for feature in dropped {
                json.beginObject(onOneLine: true)
                json.key("kind")
                json.value(feature.kind.rawValue)
                json.key("value")
                json.value(feature.value)
                json.key("layers")
                json.beginArray()
                for layer in feature.layers { json.value(layer) }
                json.end()
                json.end()
            }
            json.end()
        }
        json.key("parameter_count")
        json.beginObject(onOneLine: true)
        json.key("teacher")
        json.value(teacherParameterCount)
        json.key("student")
        json.value(studentParameterCount)
        json.end()
        json.key("memory")
        json.beginObject()
        json.key("context")
        json.value(context)
        json.key("teacher")
        write(teacherMemory, context, to: &json)
        json.key("student")
        write(studentMemory, context, to: &json)
        json.end()
        json.end()
        try json.finish()
    }

    private func write(_ memory: Memory, _ context: Int, to json: inout JSONWriter) {
        json.beginObject(onOneLine: true)
        json.key("kv_cache_bytes_per_token")
        json.value(memory.cacheBytesPerToken)
        json.key("kv_cache_bytes")
        json.value(memory.bytes(context: context) - memory.stateBytes)
        json.key("state_bytes")
        json.value(memory.stateBytes)
        json.end()
    }

    // MARK: Reading

    /// Reads a plan and checks it against the teacher of the conversion.
    ///
    /// The file must agree with everything that follows from the teacher, the target and the layers: kinds, some
    /// switches, counts, memory, dropped features, and which tensors need initialisers. Ranks, the other switches,
    /// initialisers, factors and the seed are read from the file.
    ///
    /// - Throws: ``CheckpointError``: `malformed` with the wrong field, or any error from reading the file.
    public init(contentsOf path: String, teacher: ModelDescription) throws(CheckpointError) {
        let fields = PlanFields(path: path, root: try JSONValue(contentsOf: path))
        guard fields.root["schema"]?.string == ByteString(Self.schema) else {
            throw fields.error(
                "the file is not a plan, or has a different version", "schema", expected: "\"\(Self.schema)\"")
        }
        guard let target = ArchitectureRegistry.target(named: try fields.text("target").text) else {
            throw fields.error(
                "the target is unknown", "target", expected: ArchitectureRegistry.targetNames.joined(separator: ", "))
        }
        guard try fields.text("teacher", "identity") == ByteString(teacher.identity) else {
            throw fields.error(
                "the plan was made for a different teacher", "teacher", "identity", expected: teacher.identity)
        }
        let layers = try fields.layers(count: teacher.layers.count)
        let attention = layers.indices.filter { layers[$0].kind.hasCache }
        let switches = try fields.switches()
        guard
            var plan = LayerPlan(
                of: teacher, target: target, LayerSelection(Set(attention), reason: ""),
                ranks: try fields.ranks(Set(target.conversion?.ranks.keys.map { $0 } ?? [])),
                attentionUsesRoPE: switches.attentionUsesRoPE, seed: try fields.integer("seed"))
        else { throw fields.error("the teacher's sizes are not known", "teacher") }
        guard plan.seed >= 0 else { throw fields.error("the seed is negative", "seed") }
        guard zip(plan.layers, layers).allSatisfy({ $0.kind == $1.kind }) else {
            throw fields.error("a layer's kind does not follow from the teacher and the target", "layers")
        }
        for (keys, expected) in [
            (["target"], JSONValue.string(ByteString(plan.target))),
            (["switches", "rwkv_rope"], .bool(plan.switches.timeMixingUsesRoPE)),
            (["switches", "head_norm"], .bool(plan.switches.normalisesHeads)),
            (["switches", "tied_head"], .bool(plan.switches.tiesHead)),
            (["parameter_count", "teacher"], .integer(plan.teacherParameterCount)),
            (["parameter_count", "student"], .integer(plan.studentParameterCount)),
            (["memory", "teacher", "kv_cache_bytes_per_token"], .integer(plan.teacherMemory.cacheBytesPerToken)),
            (["memory", "student", "kv_cache_bytes_per_token"], .integer(plan.studentMemory.cacheBytesPerToken)),
            (["memory", "student", "state_bytes"], .integer(plan.studentMemory.stateBytes)),
        ] { try fields.require(keys, expected) }
        guard try fields.dropped() == plan.dropped else {
            throw fields.error("the dropped features do not follow from the teacher and the layers", "dropped")
        }
        plan.layers = layers
        plan.switches = switches
        plan.initialisers = try fields.initialisers(plan.initialisers)
        plan.projectionFactors = try fields.factors()
        self = plan
    }
}

/// Reads the fields of a plan document.
private struct PlanFields {
    let path: String
    let root: JSONValue

    func error(_ problem: String, _ keys: String..., expected: String? = nil) -> CheckpointError {
        failure(problem, keys, expected: expected)
    }

    private func failure(_ problem: String, _ keys: [String], expected: String?) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, "\(problem) (\(keys.joined(separator: ".")))", expected: expected,
            found: value(keys)?.description ?? "nothing")
    }

    private func value(_ keys: [String]) -> JSONValue? {
        keys.reduce(root as JSONValue?) { $0?[$1] }
    }

    private func read<Value>(
        _ keys: [String], _ expected: String, _ convert: (JSONValue) -> Value?
    ) throws(CheckpointError) -> Value {
        guard let value = value(keys).flatMap(convert) else {
            throw failure("a field is missing or has the wrong type", keys, expected: expected)
        }
        return value
    }

    /// Checks a field whose value follows from the rest of the plan and the teacher.
    func require(_ keys: [String], _ expected: JSONValue) throws(CheckpointError) {
        guard value(keys) == expected else {
            throw failure(
                "the value does not fit the teacher, the target and the layers", keys, expected: expected.description)
        }
    }

    func text(_ keys: String...) throws(CheckpointError) -> ByteString { try read(keys, "text") { $0.string } }

    func integer(_ keys: String...) throws(CheckpointError) -> Int { try read(keys, "an integer") { $0.integer } }

    func layers(count: Int) throws(CheckpointError) -> [LayerPlan.Layer] {
        let elements = try read(["layers"], "an array") { $0.array }
        var layers: [LayerPlan.Layer] = []
        for (position, element) in elements.enumerated() {
            guard let index = element["index"]?.integer, let reason = element["reason"]?.string,
                let kind = element["kind"]?.string.flatMap({ LayerKind($0) })
            else { throw error("layer \(position) does not have an index, a kind and a reason", "layers") }
            guard index == position, index < count else {
                throw CheckpointError(
                    .malformed, path: path, "a layer is out of order, or the teacher does not have it",
                    expected: position < count ? "\(position)" : "\(count) layers", found: "layer \(index)")
            }
            layers.append(LayerPlan.Layer(kind: kind, reason: reason.text))
        }
        guard layers.count == count else {
            throw CheckpointError(
                .malformed, path: path, "the plan is for a different number of layers", expected: "\(count)",
                found: "\(layers.count)")
        }
        return layers
    }

    func dropped() throws(CheckpointError) -> [DroppedFeature] {
        guard root["dropped"] != nil else { return [] }
        return try read(["dropped"], "features with a kind, a value and layers") { value in
            let features = value.array?.compactMap { feature -> DroppedFeature? in
                guard let kind = feature["kind"]?.string.flatMap({ DroppedFeature.Kind($0) }),
                    let number = feature["value"]?.double, let layers = feature["layers"]?.array
                else { return nil }
                return DroppedFeature(kind: kind, value: number, layers: layers.map { $0.integer ?? -1 })
            }
            return features?.count == value.array?.count ? features : nil
        }
    }

    func ranks(_ dimensions: Set<Dimension>) throws(CheckpointError) -> [Dimension: Int] {
        var ranks: [Dimension: Int] = [:]
        for dimension in dimensions {
            ranks[dimension] = try read(["ranks", dimension.key], "a rank from 1 to 65536") { value in
                value.integer.flatMap { 1...65536 ~= $0 ? $0 : nil }
            }
        }
        return ranks
    }

    func switches() throws(CheckpointError) -> LayerPlan.Switches {
        func truth(_ key: String) throws(CheckpointError) -> Bool {
            try read(["switches", key], "true or false") { $0.bool }
        }
        return LayerPlan.Switches(
            attentionUsesRoPE: try truth("gqa_rope"), timeMixingUsesRoPE: try truth("rwkv_rope"),
            usesTeachersScaling: try read(["switches", "rwkv_rope_scaling"], "teacher or none") {
                ["teacher": true, "none": false][$0.string ?? ""]
            },
            firstValues: try read(
                ["switches", "first_values"],
                ModelDescription.FirstValues.allCases.map(\.rawValue).joined(separator: " or ")
            ) { $0.string.flatMap { ModelDescription.FirstValues($0) } },
            normalisesHeads: try truth("head_norm"), tiesHead: try truth("tied_head"))
    }

    /// Reads the plan's initialisers: exactly one for each role in `known`.
    func initialisers(_ known: [TensorRole: Initialiser]) throws(CheckpointError) -> [TensorRole: Initialiser] {
        guard case .object(let members) = root["initialisers"] else {
            throw error("a field is missing or has the wrong type", "initialisers", expected: "an object")
        }
        var initialisers: [TensorRole: Initialiser] = [:]
        for (name, member) in members.sorted(by: { $0.key < $1.key }).map({ ($0.key.text, $0.value) }) {
            guard let role = TensorRole(ByteString(name)), known[role] != nil else {
                throw error("no tensor of this role needs an initialiser", "initialisers", name)
            }
            initialisers[role] = try read(["initialisers", name], "an initialiser") { _ in
                Initialiser(name: member["kind"]?.string?.text ?? "", value: member["value"]?.double)
            }
        }
        let missing = known.keys.filter { initialisers[$0] == nil }
        if let role = missing.min(by: { $0.rawValue < $1.rawValue }) {
            throw error("a tensor has no initialiser", "initialisers", role.rawValue)
        }
        return initialisers
    }

    func factors() throws(CheckpointError) -> LayerPlan.ProjectionFactors {
        func factor(_ key: String) throws(CheckpointError) -> Double {
            try read(["projection_factors", key], "a number that fits into fp32") {
                $0.double.flatMap { Float($0).isFinite && (Float($0) != 0 || $0 == 0) ? $0 : nil }
            }
        }
        var factors = LayerPlan.ProjectionFactors()
        factors.receptance = try factor("receptance")
        factors.key = try factor("key")
        factors.value = try factor("value")
        factors.output = try factor("output")
        return factors
    }
}
