public import Bytes
import CheckpointFiles
package import CheckpointJSON
public import ModelFamilies

extension LayerPlan {
    /// Writes the plan as one JSON document that matches schemas/plan.schema.json, with memory use at `context` tokens.
    ///
    /// - Throws: any error that `output` throws.
    public func writeJSON(to output: consuming ByteOutput, context: Int) throws {
        try JSONWriter.document(to: output) { $0.members(of: LayerPlanDocument(self, context: context)) }
    }

    /// Reads a plan and checks it against the teacher of the conversion.
    ///
    /// The target, the layers, the ranks, the RoPE of attention, the RoPE scaling, the choice of first values, the
    /// initialisers, the factors, the seed and the context are read from the file. Everything else in the file must
    /// agree with these values and with the teacher.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if the file is not a valid plan for the teacher, or any
    ///   error from reading the file.
    public init(contentsOf path: String, teacher: ModelDescription) throws(CheckpointError) {
        let root = try JSONValue(contentsOf: path)
        func refusal(_ problem: String, _ member: [String], expected: String? = nil) -> CheckpointError {
            let found = member.reduce(root as JSONValue?) { $0?.element($1) }
            return CheckpointError(
                .malformed, path: path, "\(problem) (\(member.joined(separator: ".")))", expected: expected,
                found: found?.description ?? "nothing")
        }
        guard root["schema"]?.string == ByteString(LayerPlanDocument.schema) else {
            throw refusal(
                "the file is not a plan, or has a different version", ["schema"],
                expected: "\"\(LayerPlanDocument.schema)\"")
        }
        let document: LayerPlanDocument
        do throws(JSONMismatch) { document = try LayerPlanDocument(root) } catch {
            throw refusal("a member is missing or has the wrong type", error.path, expected: error.expected)
        }
        guard let target = ArchitectureRegistry.target(named: document.target) else {
            throw refusal(
                "the target is unknown", ["target"], expected: ArchitectureRegistry.targetNames.joined(separator: ", "))
        }
        guard ByteString(document.teacher.identity) == ByteString(teacher.identity) else {
            throw refusal(
                "the plan was made for a different teacher", ["teacher", "identity"], expected: teacher.identity)
        }
        guard document.layers.count == teacher.layers.count else {
            throw CheckpointError(
                .malformed, path: path, "the plan is for a different number of layers",
                expected: "\(teacher.layers.count)", found: "\(document.layers.count)")
        }
        for dimension in ModelDimension.ranks {
            guard let rank = document.ranks[dimension], !(1...65536).contains(rank) else { continue }
            throw refusal("the rank is out of range", ["ranks", dimension.key], expected: "a rank from 1 to 65536")
        }
        guard document.seed >= 0 else { throw refusal("the seed is negative", ["seed"]) }
        let factors = document.factors
        for (name, factor) in [
            ("receptance", factors.receptance), ("key", factors.key), ("value", factors.value),
            ("output", factors.output),
        ] where !Float(factor).isFinite || Float(factor) == 0 && factor != 0 {
            throw refusal(
                "the factor is out of range", ["projection_factors", name], expected: "a number that fits into fp32")
        }
        guard
            var plan = LayerPlan(
                of: teacher, target: target,
                LayerSelection(Set(document.layers.indices.filter { document.layers[$0].kind.hasCache }), reason: ""),
                ranks: document.ranks, attentionUsesRoPE: document.switches.attentionUsesRoPE, seed: document.seed)
        else { throw refusal("the teacher's sizes are not known", ["teacher"]) }
        for layer in plan.layers.indices { plan.layers[layer].reason = document.layers[layer].reason }
        plan.switches.usesTeachersScaling = document.switches.usesTeachersScaling
        plan.switches.firstValues = document.switches.firstValues
        plan.projectionFactors = document.factors
        for role in TensorRole.all {
            guard plan.initialisers[role] != nil, let read = document.initialisers[role] else { continue }
            guard let initialiser = Initialiser(name: read.kind, value: read.value) else {
                throw refusal("unknown initialiser", ["initialisers", role.rawValue], expected: "an initialiser")
            }
            plan.initialisers[role] = initialiser
        }
        // Writing to memory cannot fail, and its result is JSON.
        let bytes = try? ByteOutput.bytes { try plan.writeJSON(to: $0, context: document.context) }
        let expected = bytes.flatMap { try? JSONValue(document: $0) } ?? .null
        if let member = expected.firstDifference(from: root) {
            let value = member.reduce(expected as JSONValue?) { $0?.element($1) }
            throw refusal(
                "the member does not fit the teacher, the target and the layers", member,
                expected: value?.description ?? "nothing")
        }
        self = plan
    }
}

/// The JSON document of a plan.
package struct LayerPlanDocument: JSONRecord {
    static let schema = "rwkv-ckpt/plan/1"

    struct Layer: JSONRecord {
        var index = 0
        var kind = LayerKind.rwkv7
        var reason = ""

        mutating func describe(to members: inout some JSONMembers) {
            members.member("index", &index)
            members.member("kind", &kind)
            members.member("reason", &reason)
        }
    }

    struct InitialValue: JSONRecord {
        var kind = ""
        var value: Double?

        mutating func describe(to members: inout some JSONMembers) {
            members.member("kind", &kind)
            members.member(ifPresent: "value", &value)
        }
    }

    struct Memory: JSONRecord {
        var cacheBytesPerToken = 0
        var cacheBytes = 0
        var stateBytes = 0

        mutating func describe(to members: inout some JSONMembers) {
            members.member("kv_cache_bytes_per_token", &cacheBytesPerToken)
            members.member("kv_cache_bytes", &cacheBytes)
            members.member("state_bytes", &stateBytes)
        }
    }

    private enum Scaling: String, CaseIterable, JSONReadable { case teacher, none }

    var schema = Self.schema
    var target = ""
    var teacher = LayerPlan.Teacher(family: "", identity: "")
    var layers: [Layer] = []
    var switches = LayerPlan.Switches()
    var ranks: [ModelDimension: Int] = [:]
    var initialisers: [TensorRole: InitialValue] = [:]
    var seed = 0
    var factors = LayerPlan.ProjectionFactors()
    var dropped: [DroppedFeature] = []
    var parameterCounts = (teacher: 0, student: 0)
    var context = 0
    var memory = (teacher: Memory(), student: Memory())

    package init() {}

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("schema", &schema)
        members.member("target", &target)
        members.object("teacher", onOneLine: true) {
            $0.member("family", &teacher.family)
            $0.member("identity", &teacher.identity)
        }
        members.array("layers", ifPresent: false, &layers)
        members.object("switches", onOneLine: false) {
            $0.member("gqa_rope", &switches.attentionUsesRoPE)
            $0.member("rwkv_rope", &switches.timeMixingUsesRoPE)
            var scaling = switches.usesTeachersScaling ? Scaling.teacher : .none
            $0.member("rwkv_rope_scaling", &scaling)
            switches.usesTeachersScaling = scaling == .teacher
            $0.member("first_values", &switches.firstValues)
            $0.member("head_norm", &switches.normalisesHeads)
            $0.member("tied_head", &switches.tiesHead)
        }
        members.object("ranks", onOneLine: true) {
            for dimension in ModelDimension.ranks { $0.member(ifPresent: dimension.key, &ranks[dimension]) }
        }
        members.object("initialisers", onOneLine: false) {
            for role in TensorRole.all { $0.object(ifPresent: role.rawValue, &initialisers[role]) }
        }
        members.member("seed", &seed)
        members.object("projection_factors", onOneLine: true) {
            $0.member("receptance", &factors.receptance)
            $0.member("key", &factors.key)
            $0.member("value", &factors.value)
            $0.member("output", &factors.output)
        }
        members.array("dropped", ifPresent: true, &dropped)
        members.object("parameter_count", onOneLine: true) {
            $0.member("teacher", &parameterCounts.teacher)
            $0.member("student", &parameterCounts.student)
        }
        members.object("memory", onOneLine: false) {
            $0.member("context", &context)
            $0.object("teacher", onOneLine: true) { memory.teacher.describe(to: &$0) }
            $0.object("student", onOneLine: true) { memory.student.describe(to: &$0) }
        }
    }
}

extension LayerPlanDocument {
    init(_ plan: LayerPlan, context: Int) {
        target = plan.target
        teacher = plan.teacher
        layers = plan.layers.enumerated().map { Layer(index: $0, kind: $1.kind, reason: $1.reason) }
        switches = plan.switches
        ranks = plan.ranks
        initialisers = plan.initialisers.mapValues { InitialValue(kind: $0.name, value: $0.value) }
        seed = plan.seed
        factors = plan.projectionFactors
        dropped = plan.dropped
        parameterCounts = (plan.teacherParameterCount, plan.studentParameterCount)
        self.context = context
        func memory(_ memory: LayerPlan.Memory) -> Memory {
            Memory(
                cacheBytesPerToken: memory.cacheBytesPerToken,
                cacheBytes: memory.bytes(context: context) - memory.stateBytes, stateBytes: memory.stateBytes)
        }
        self.memory = (memory(plan.teacherMemory), memory(plan.studentMemory))
    }
}

extension DroppedFeature: JSONRecord {
    package init() { self.init(kind: .window, value: 0, layers: []) }

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("kind", &kind)
        members.member("value", &value)
        members.member("layers", &layers)
    }
}

extension DroppedFeature.Kind: JSONReadable {}
extension LayerKind: JSONReadable {}
extension ModelDescription.FirstValuesLayer: JSONReadable {}

extension JSONValue {
    /// The member of an object, or the element of an array, that has this name or index.
    fileprivate func element(_ name: String) -> JSONValue? {
        guard let array else { return self[name] }
        return Int(name).flatMap { array.indices.contains($0) ? array[$0] : nil }
    }

    /// Returns the path to the first difference between two values, or nil if they are equal.
    ///
    /// The path ends at a scalar, or at a member or element that only one of the values has.
    fileprivate func firstDifference(from other: JSONValue) -> [String]? {
        let names: [String]
        switch (self, other) {
        case (.object(let a), .object(let b)): names = Set(a.keys).union(b.keys).sorted().map(\.text)
        case (.array(let a), .array(let b)): names = (0..<max(a.count, b.count)).map { "\($0)" }
        default: return self == other || double != nil && double == other.double ? nil : []
        }
        for name in names {
            guard let a = element(name), let b = other.element(name) else { return [name] }
            if let rest = a.firstDifference(from: b) { return [name] + rest }
        }
        return nil
    }
}
