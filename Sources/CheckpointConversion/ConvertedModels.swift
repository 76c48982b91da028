import Bytes
import CheckpointJSON
import CheckpointFiles
import LayerPlanning
import ModelFamilies

extension ConversionBuilder {
    /// Throws if the model is quantised or contradicts its config.json, or if the source contains parts of an adapter.
    func check(_ model: ModelDescription, _ part: Conversion.Part) throws(CheckpointError) {
        if let quantisation = model.quantisation {
            throw error(.unsupported, in: part, quantisation.conversionBlocker)
        }
        let tensors = inputs[part]?.checkpoint.tensors
        if part == .source, let name = tensors?.first(where: { Adapter.split($0.name) != nil })?.name {
            throw error(
                .unsupported, "the checkpoint contains parts of an adapter", tensor: name,
                advice: "convert the model that the adapter was trained on, and pass this checkpoint with --adapter")
        }
        if let finding = model.findings.first(where: { $0.kind == .contradiction }) {
            throw error(.malformed, in: part, finding.message)
        }
    }

    /// Returns the student that a plan creates from a transformer.
    func student(of source: ModelDescription, _ plan: LayerPlan) throws(CheckpointError) -> ModelDescription {
        if let conversionBlocker = source.conversionBlocker(options.mayBeUnused) {
            let isLarger = source.findings.contains { $0.kind == .otherModel }
            throw error(
                .unsupported, "the model cannot be converted faithfully: \(conversionBlocker)",
                advice: isLarger ? "--allow-unused 'GLOB' leaves out the tensors of another model" : nil)
        }
        guard let architecture = ArchitectureRegistry.target(named: plan.target),
            let student = source.student(
                architecture, attention: Set(plan.attentionLayers), ranks: plan.ranks,
                attentionUsesRoPE: plan.switches.attentionUsesRoPE, firstValues: plan.switches.firstValues)
        else { throw error(.unsupported, "the model's sizes are not known") }
        return student
    }

    func differ(_ what: String, _ own: some Any, _ other: some Any) -> CheckpointError {
        error(
            .malformed, "\(what) differs from that of \(inputs[.teacher]?.checkpoint.path ?? "the teacher")",
            expected: "\(other)", found: "\(own)")
    }

    /// Returns the student with its teacher's attention in the layers that the plan makes attention layers.
    func restored(
        _ student: ModelDescription, _ teacher: ModelDescription, _ plan: LayerPlan
    ) throws(CheckpointError) -> ModelDescription {
        if let conversionBlocker = teacher.conversionBlocker(options.mayBeUnused) {
            throw error(.unsupported, in: .teacher, "the model cannot be a teacher: \(conversionBlocker)")
        }
        guard student.architecture.variants.contains(plan.target) else {
            throw error(
                .unsupported, "the plan is for a different kind of student", expected: plan.target,
                found: student.variant ?? student.architecture.family)
        }
        guard student.layers.count == plan.layers.count else {
            throw error(
                .malformed, "the plan is for a different number of layers", expected: "\(plan.layers.count)",
                found: "\(student.layers.count)")
        }
        for dimension in ModelDimension.allCases
        where !ModelDimension.ranks.contains(dimension) && dimension != .valueResidualWidth {
            guard let own = student.dimensions[dimension], let other = teacher.dimensions[dimension] else { continue }
            guard own == other else { throw differ(dimension.title, own, other) }
        }
        if let own = student.epsilon, let other = teacher.epsilon, own != other {
            throw differ("the norm epsilon", own, other)
        }
        if let own = student.rotary, let other = teacher.rotary, own != other {
            throw differ("the rotary embedding", "\(own.type) \(own.theta)", "\(other.type) \(other.theta)")
        }
        let root = inputs[.source]?.configuration?.root
        for (key, value) in plan.switches.configuration {
            guard let own = root?[key.text], own != .null, own != value else { continue }
            throw error(
                .malformed, "the plan sets \(key) to \(value), but the student was trained with another value",
                found: own.description)
        }
        let attention = Set(plan.attentionLayers)
        if let layer = student.layers.indices.first(where: {
            student.layers[$0].kind.hasCache && !attention.contains($0)
        }) {
            throw error(
                .malformed, "layer \(layer) is an attention layer, but the plan has time mixing there",
                advice: "only time mixing can be replaced with attention")
        }
        return student.restored(
            from: teacher, attention: attention, attentionUsesRoPE: plan.switches.attentionUsesRoPE,
            firstValues: plan.switches.firstValues)
    }

    /// Throws if the adapter changes the embedding or the head of a model in which they are tied, because it is unclear
    /// which of the two tensors the model would then use.
    func checkHead() throws(CheckpointError) {
        let both = [tensor(.source, .head), tensor(.source, .embedding)].compactMap { $0 }
        guard both.count == 2,
            both.contains(where: {
                changes.merges[$0.position] != nil || changes.replacements[$0.position] != nil
            }), try isHeadTied(.source)
        else { return }
        throw error(
            .unsupported, in: .adapter,
            "the adapter changes the embedding or the head, which are tied in \(inputs[.source]?.checkpoint.path ?? "the model")",
            advice: "set tie_word_embeddings to false if they should differ")
    }

    /// Returns whether the head is tied to the embedding.
    ///
    /// This is the case if they share their elements, or if the model ties them and has no head that differs from the
    /// embedding.
    func isHeadTied(_ part: Conversion.Part) throws(CheckpointError) -> Bool {
        guard let model = inputs[part]?.model, let embedding = tensor(part, .embedding) else { return false }
        guard let head = tensor(part, .head) else { return model.hasTiedHead }
        if representative(of: head) == representative(of: embedding) { return true }
        return model.hasTiedHead ? try isSame(head, embedding) : false
    }

    /// Returns whether the head of a completed training checkpoint is tied to its embedding.
    ///
    /// This is the case if the teacher's head is tied and the checkpoint has neither a head nor a changed embedding.
    func isTrainedHeadTied() throws(CheckpointError) -> Bool {
        guard tensor(.source, .head) == nil, try isHeadTied(.teacher) else { return false }
        guard let trained = tensor(.source, .embedding), let own = tensor(.teacher, .embedding) else { return true }
        return try isSame(trained, own)
    }

    func tensor(_ part: Conversion.Part, _ role: TensorRole, layer: Int? = nil) -> Conversion.InputTensor? {
        inputs[part]?.model?.bindings[TensorPlace(role: role, layer: layer)].map {
            Conversion.InputTensor(part: part, position: $0.position)
        }
    }

    func isSame(_ a: Conversion.InputTensor, _ b: Conversion.InputTensor) throws(CheckpointError) -> Bool {
        guard let first = inputs[a.part]?.checkpoint, let second = inputs[b.part]?.checkpoint else { return false }
        return try first.hasSameBytes(first.tensors[a.position], as: second.tensors[b.position], of: second)
    }
}
