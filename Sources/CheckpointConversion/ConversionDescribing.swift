public import CheckpointFiles
import CheckpointJSON
public import LayerPlanning
import ModelFamilies

extension Conversion {
    /// Describes a conversion in full, without writing anything.
    ///
    /// - With a plan: makes a student of a transformer. With a plan and a teacher: gives a student its teacher's attention back
    ///   in the layers that the plan keeps as attention.
    /// - With a teacher alone: completes a training checkpoint, which holds only the tensors that were trained.
    /// - Otherwise: makes the same model with other files, names or dtypes.
    ///
    /// - Parameters:
    ///   - source: the checkpoint to convert.
    ///   - teacher: the transformer that the student was made of.
    ///   - plan: what each layer becomes, read for the teacher, or for the source if the source is the transformer.
    ///   - adapter: changes to the source's weights.
    ///   - adapterScale: the s of W + s B A, for adapters without adapter_config.json.
    ///   - options: the destination, layout and dtypes of the result.
    /// - Throws: ``CheckpointError``: `malformed` or `unsupported` if tensors, plan and options do not fit together.
    public init(
        of source: ConversionInput, teacher: ConversionInput? = nil, plan: LayerPlan? = nil,
        adapter: Checkpoint? = nil, adapterScale: Double? = nil, options: ConversionOptions
    ) throws(CheckpointError) {
        var inputs: [Part: ConversionInput] = [.source: source]
        inputs[.teacher] = teacher
        var changes = AdapterChanges()
        if let adapter {
            inputs[.adapter] = ConversionInput(adapter, model: nil, configuration: nil)
            changes = try AdapterChanges(adapter, on: source, scale: adapterScale, mayBeUnused: options.mayBeUnused)
        }
        let combinesInputs = plan != nil || teacher != nil
        let layout = options.layout ?? (combinesInputs ? .huggingFace : source.model?.layout)
        // An explicit layout also removes the prefixes of wrappers.
        let keepsNames =
            !combinesInputs && layout?.name == source.model?.layout?.name
            && (options.layout == nil || !source.hasPrefixes)
        var builder = ConversionBuilder(inputs, changes, layout: keepsNames ? nil : layout, options: options)
        try builder.checkHead()
        let made: (model: ModelDescription?, fates: [Part: [Fate]])
        if keepsNames {
            made = (source.model, try builder.keepNames())
        } else if let layout {
            made = try builder.lay(out: layout, plan: plan)
        } else {
            throw builder.error(
                .unsupported, "the checkpoint is not a model of a known family, so its tensors cannot be renamed",
                advice: "give its config.json with --config")
        }
        tensors = builder.tensors
        self.inputs = inputs
        fates = made.fates
        self.layout = keepsNames ? source.model?.layout : layout
        model = made.model
        self.options = options
        let outputs = builder.tensors.map(\.output)
        // Metadata is valid only for the same tensors under the same names.
        let noted = Set(source.checkpoint.notedNames.map { ByteString($0.name) })
        let said = source.checkpoint.metadata.filter { !noted.contains($0.key) }
        let metadata = keepsNames && options.destination.isOfSafetensors ? said : [:]
        // Writers of safetensors add "format": "pt" themselves.
        omittedMetadata = said.filter { key, value in
            metadata[key] == nil && !(key == "format" && ByteString(value) == "pt")
        }.keys.sorted()
        switch options.destination {
        case .file(let path, let container, _):
            byteLayout = try CheckpointByteLayout(
                outputs, container: container, name: Self.name(of: path), metadata: metadata)
        case .directory(_, let shardByteCount):
            byteLayout = try CheckpointByteLayout(outputs, shardByteCount: shardByteCount, metadata: metadata)
        }
        configuration = try builder.configuration(of: made.model, plan: plan)
    }

    /// The last component of a path.
    package static func name(of path: String) -> String {
        String(path.utf8.split(separator: UInt8(ascii: "/")).last ?? Substring(path).utf8) ?? path
    }
}

extension ConversionBuilder {
    // MARK: The same names

    /// Adds every tensor under its own name.
    mutating func keepNames() throws(CheckpointError) -> [Conversion.Part: [Conversion.Fate]] {
        guard let source = inputs[.source] else { return [:] }
        let all = source.checkpoint.tensors
        // A model with untied embeddings has both tensors, even if they are equal.
        let isUntied =
            source.model != nil && source.configuration?.root["tie_word_embeddings"]?.bool == false
            && options.destination.isOfSafetensors
        // A tensor comes before its other names.
        let inputs = all.indices.map { Conversion.InputTensor(part: .source, position: $0) }
        let first = inputs.filter { representative(of: $0) == $0 }
        for input in first + inputs.filter({ representative(of: $0) != $0 }) {
            let info = all[input.position]
            let place = places[input]?.first
            try add(
                input, name: info.name, place: place, shape: info.shape, sharesTied: !(isUntied && place?.role == .head)
            )
        }
        for (name, position) in source.checkpoint.notedNames {
            let input = Conversion.InputTensor(part: .source, position: position)
            try add(input, name: name, place: nil, shape: all[position].shape, sharesTied: true)
        }
        return try fates { _, _ in nil }
    }

    // MARK: Names by roles

    /// Adds every tensor that the resulting model has in a layout, whatever it is made of.
    mutating func lay(
        out layout: TensorLayout, plan: LayerPlan?
    ) throws(CheckpointError) -> (model: ModelDescription?, fates: [Conversion.Part: [Conversion.Fate]]) {
        guard let source = inputs[.source]?.model else {
            throw error(
                .unsupported,
                "the checkpoint is not a model of a known family, so the roles of its tensors are not known",
                advice: "give its config.json with --config")
        }
        let teacher = inputs[.teacher]?.model
        if inputs[.teacher] != nil, teacher == nil {
            throw error(.unsupported, in: .teacher, "the checkpoint is not a model of a known family")
        }
        for (part, model) in [(Conversion.Part.source, source), (.teacher, teacher ?? source)] {
            try check(model, part)
        }
        var target: ModelDescription
        var isTied = try isHeadTied(.source)
        if let plan, let teacher {
            target = try restored(source, teacher, plan)
        } else if let plan {
            target = try student(of: source, plan)
            guard isTied == plan.switches.tiesHead else {
                throw error(
                    .malformed, "config.json ties the embeddings, but the checkpoint has a head that differs",
                    advice: "set tie_word_embeddings to false to use that head")
            }
        } else if let teacher {
            guard source.layout?.holdsTrainedOnly == true else {
                throw error(
                    .unsupported, "--teacher requires --plan, or a training checkpoint of RWKVInside as the source")
            }
            target = source.completed(by: teacher)
            isTied = try isTrainedHeadTied()
        } else {
            target = source
        }
        // A layout's names depend on the family.
        guard let layout = target.architecture.layouts.first(where: { $0.name == layout.name }) else {
            throw error(
                .unsupported, "\(target.variant ?? target.architecture.family) has no such layout",
                expected: target.architecture.layouts.map(\.name).joined(separator: ", "), found: layout.name)
        }
        target = target.stored(in: layout, hasTiedHead: isTied)
        for tensor in target.tensors { try add(tensor, of: target, layout, plan) }
        let fates = try fates { reason($0, $1, target, plan) }
        return (target, fates)
    }

    /// Refuses quantised models, models that contradict their config.json, and sources that contain parts of an adapter.
    private func check(_ model: ModelDescription, _ part: Conversion.Part) throws(CheckpointError) {
        if let quantisation = model.quantisation {
            throw error(.unsupported, in: part, quantisation.conversionBlocker)
        }
        let tensors = inputs[part]?.checkpoint.tensors
        if part == .source, let name = tensors?.first(where: { Adapter.split($0.name) != nil })?.name {
            throw error(
                .unsupported, "the checkpoint contains parts of an adapter", tensor: name,
                advice: "convert the model that the adapter was trained on, and give this checkpoint with --adapter")
        }
        if let finding = model.findings.first(where: { $0.kind == .contradiction }) {
            throw error(.malformed, in: part, finding.message)
        }
    }

    /// The student that a plan makes of a transformer.
    private func student(of source: ModelDescription, _ plan: LayerPlan) throws(CheckpointError) -> ModelDescription {
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

    private func differ(_ what: String, _ own: some Any, _ other: some Any) -> CheckpointError {
        error(
            .malformed, "\(what) differs from that of \(inputs[.teacher]?.checkpoint.path ?? "the teacher")",
            expected: "\(other)", found: "\(own)")
    }

    /// A student with its teacher's attention in the layers in which a plan has attention.
    private func restored(
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
        for dimension in Dimension.allCases
        where !Dimension.ranks.contains(dimension) && dimension != .valueResidualWidth {
            let (own, other) = (student.dimensions[dimension], teacher.dimensions[dimension])
            guard own == nil || own == other else { throw differ(dimension.title, own ?? 0, other ?? 0) }
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

    /// Refuses an adapter that changes tied embeddings: it would be unclear which of the two tensors the model then uses.
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

    /// Whether the head is the embedding: both are one tensor, or the model ties them and stores no head that differs.
    private func isHeadTied(_ part: Conversion.Part) throws(CheckpointError) -> Bool {
        guard let model = inputs[part]?.model, let embedding = tensor(part, .embedding) else { return false }
        guard let head = tensor(part, .head) else { return model.hasTiedHead }
        if representative(of: head) == representative(of: embedding) { return true }
        return model.hasTiedHead ? try isSame(head, embedding) : false
    }

    /// Whether the head of a completed training checkpoint is its embedding: not if the teacher's head is its embedding, and
    /// training changed the latter.
    private func isTrainedHeadTied() throws(CheckpointError) -> Bool {
        guard tensor(.source, .head) == nil, try isHeadTied(.teacher) else { return false }
        guard let trained = tensor(.source, .embedding), let own = tensor(.teacher, .embedding) else { return true }
        return try isSame(trained, own)
    }

    private func tensor(_ part: Conversion.Part, _ role: TensorRole, layer: Int? = nil) -> Conversion.InputTensor? {
        inputs[part]?.model?.bindings[TensorPlace(role: role, layer: layer)].map {
            Conversion.InputTensor(part: part, position: $0.position)
        }
    }

    private func isSame(_ a: Conversion.InputTensor, _ b: Conversion.InputTensor) throws(CheckpointError) -> Bool {
        guard let first = inputs[a.part]?.checkpoint, let second = inputs[b.part]?.checkpoint else { return false }
        return try first.hasSameBytes(first.tensors[a.position], as: second.tensors[b.position], of: second)
    }

    /// The input tensor that an output tensor is made of, and what is done to its elements.
    private struct Source {
        let tensor: Conversion.InputTensor
        /// The tensor's role in its own model.
        let role: TensorRole
        var offset = 0.0
        var factor = 1.0
    }

    private func source(of place: TensorPlace, _ target: ModelDescription, _ plan: LayerPlan?) -> Source? {
        func find(_ part: Conversion.Part, _ role: TensorRole) -> Source? {
            tensor(part, role, layer: place.layer).map { Source(tensor: $0, role: role) }
        }
        let isOfAttention = target.architecture.attention?.roles.all.contains(place.role) == true
        if plan != nil, inputs[.teacher] != nil, isOfAttention { return find(.teacher, place.role) }
        if let own = find(.source, place.role) { return own }
        if let plan, inputs[.teacher] == nil, let role = place.role.counterpart, var own = find(.source, role) {
            own.factor = plan.projectionFactors.factor(of: place.role)
            if let model = inputs[.source]?.model, let layer = place.layer {
                // Head norms of time mixing multiply by w, not by 1 + w, and time mixing has no query scale.
                if TensorRole.headNorms.contains(role), model.architecture.body.norm == .rmsOfOnePlus { own.offset = 1 }
                if place.role.takesQueryScale(hasNorm: target.optionalRoles.contains(.receptanceNorm)) {
                    own.factor *= model.receptanceFactor(ofLayer: layer)
                }
            }
            return own
        }
        if plan == nil, let own = find(.teacher, place.role) { return own }
        guard place.role == .head else { return nil }
        // The head of a teacher with tied embeddings is its own embedding, not the trained one.
        return (plan == nil ? find(.teacher, .embedding) : nil) ?? find(.source, .embedding)
    }

    private mutating func add(
        _ tensor: ModelDescription.ExpectedTensor, of target: ModelDescription, _ layout: TensorLayout,
        _ plan: LayerPlan?
    ) throws(CheckpointError) {
        let place = TensorPlace(role: tensor.role, layer: tensor.layer)
        // A tensor with the rows of several roles is made with the first of them.
        let fusion = layout.fusion(of: tensor.role) ?? [tensor.role]
        guard fusion.first == tensor.role else { return }
        guard let name = layout.name(of: tensor.role, layer: tensor.layer) else {
            throw error(.unsupported, "the layout \(layout.name) has no name for \(tensor.role.rawValue)")
        }
        if let source = source(of: place, target, plan), let input = inputs[source.tensor.part] {
            let origin = source.tensor
            let info = input.checkpoint.tensors[origin.position]
            var steps = Conversion.Steps()
            steps.offset = source.offset
            steps.factor = source.factor
            let own = input.model?.layout?.fusion(of: source.role) ?? [source.role]
            if own.count > 1, fusion.count == 1 {
                steps.rows = input.model?.bindings[TensorPlace(role: source.role, layer: tensor.layer)]?.rows
            }
            guard own == fusion || fusion.count == 1 else {
                throw error(
                    .unsupported, in: origin.part,
                    "the layout \(layout.name) stores in one tensor what are several tensors here (\(name))",
                    tensor: info.name)
            }
            var sizes = input.sizes(info, of: source.role)
            if let rows = steps.rows { sizes?[0] = rows.count }
            let expected = fusion.count > 1 ? target.dimensions.shape(of: fusion) : tensor.shape
            guard let sizes, expected == nil || sizes == expected || tensor.role.shape.isEmpty else {
                throw error(
                    .malformed, in: origin.part, "a tensor does not have the shape that the output needs (\(name))",
                    tensor: info.name, expected: expected.map { "\($0)" }, found: "\(sizes ?? info.shape)")
            }
            steps.isTransposed =
                input.model?.layout?.isTransposed(source.role) != layout.isTransposed(tensor.role)
            let shape = tensor.role.shape.isEmpty ? info.shape : layout.stored(sizes, of: tensor.role)
            return try add(
                origin, name: name, place: place, shape: shape, steps,
                sharesTied: !options.destination.isOfSafetensors)
        }
        guard inputs[.teacher] == nil, let plan, let initialiser = plan.initialisers[tensor.role],
            let shape = tensor.shape
        else {
            let known = inputs[.teacher] == nil ? "the model" : "the model and its teacher"
            throw error(
                .malformed, "\(known) lack\(inputs[.teacher] == nil ? "s" : "") the tensor that becomes \(name)",
                tensor: nil,
                expected: tensor.shape.map { "\(tensor.role.rawValue) \($0)" } ?? tensor.role.rawValue,
                advice: inputs[.teacher] == nil && inputs[.source]?.model?.layout?.holdsTrainedOnly == true
                    ? "--teacher provides the tensors that were not trained" : nil)
        }
        let reference =
            self.tensor(.source, .queryWeight, layer: tensor.layer) ?? self.tensor(.source, .embedding)
        let values = InitialValues(
            initialiser: initialiser, place: place, shape: shape, layerCount: target.layers.count,
            headSize: target.dimensions[.headSize] ?? 1, seed: plan.seed,
            name: TensorLayout.huggingFace.name(of: tensor.role, layer: tensor.layer) ?? name)
        try add(
            values, name: name, shape: layout.stored(shape, of: tensor.role),
            dtype: reference.flatMap { inputs[.source]?.checkpoint.tensors[$0.position].dtype } ?? .bf16)
    }

    /// Why a tensor that nothing is made of may be dropped; nil if it may not be.
    private func reason(
        _ tensor: Conversion.InputTensor, _ info: TensorInfo, _ target: ModelDescription, _ plan: LayerPlan?
    ) -> String? {
        guard let model = inputs[tensor.part]?.model else { return nil }
        if model.layout?.isIgnored(info.name) == true { return "an unused copy" }
        guard let place = places[tensor]?.first else { return nil }
        switch tensor.part {
        case .teacher: return plan == nil ? "the trained tensor is used" : "the student's tensor is used"
        case .adapter: return nil
        case .source: break
        }
        if target.architecture.timeMix?.residualRoles.contains(place.role) == true,
            place.layer == target.layerOfFirstValues
        {
            return "the first time-mixing layer does not use residuals"
        }
        if place.role == .head { return "the head is tied to the embedding" }
        if plan != nil, inputs[.teacher] != nil { return "the layer uses the teacher's attention" }
        if plan != nil { return "\(target.variant ?? "the student") has no such tensor" }
        return nil
    }
}

extension LayerPlan.ProjectionFactors {
    /// The factor of the projection that a role belongs to; 1 for all other roles, head norms among them.
    fileprivate func factor(of role: TensorRole) -> Double {
        switch role {
        case .receptanceWeight, .receptanceBias: receptance
        case .timeMixKeyWeight, .timeMixKeyBias: key
        case .timeMixValueWeight, .timeMixValueBias: value
        case .timeMixOutputWeight, .timeMixOutputBias: output
        default: 1
        }
    }
}

extension ConversionOptions.Destination {
    /// Whether the result is in safetensors files, which cannot share bytes between tensors.
    var isOfSafetensors: Bool {
        if case .file(_, .pyTorch, _) = self { false } else { true }
    }
}
