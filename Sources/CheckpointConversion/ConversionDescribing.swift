public import CheckpointFiles
import CheckpointJSON
public import LayerPlanning
import ModelFamilies

extension Conversion {
    /// Describes a conversion.
    ///
    /// - With a plan: a transformer's student. With a plan and a teacher: a student whose layers get their attention back where the
    ///   plan has it.
    /// - With a teacher alone: a model of which a training checkpoint holds what was trained.
    /// - Else the same model in other files, names or types.
    ///
    /// - Parameters:
    ///   - source: what is converted.
    ///   - teacher: the transformer that a student was made of.
    ///   - plan: what layers become, read for the teacher, or for the source where that is one.
    ///   - adapter: changes to the source's weights.
    ///   - adapterScale: s of W + s B A, where no adapter_config.json gives it.
    ///   - options: what is asked of the result.
    /// - Throws: ``CheckpointError``: `malformed` or `unsupported` where tensors, plan and options do not go together.
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
        let isPutTogether = plan != nil || teacher != nil
        let layout = options.layout ?? (isPutTogether ? .huggingFace : source.model?.layout)
        // A layout that is asked for takes the prefixes of wrappers off.
        let keepsNames =
            !isPutTogether && layout?.name == source.model?.layout?.name
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
                .unsupported, "it is no model of a known family, whose tensors could be renamed",
                advice: "give its config.json by --config")
        }
        tensors = builder.tensors
        self.inputs = inputs
        fates = made.fates
        self.layout = keepsNames ? source.model?.layout : layout
        model = made.model
        self.options = options
        let outputs = builder.tensors.map(\.output)
        // What a file says of itself holds for the same tensors alone.
        let noted = Set(source.checkpoint.notedNames.map { ByteString($0.name) })
        let said = source.checkpoint.metadata.filter { !noted.contains($0.key) }
        let metadata = keepsNames && options.destination.isOfSafetensors ? said : [:]
        // "pt" is what a writer of safetensors says of its own.
        omittedMetadata = said.filter { key, value in
            metadata[key] == nil && !(key == "format" && ByteString(value) == "pt")
        }.keys.sorted()
        switch options.destination {
        case .file(let path, let container, _):
            outline = try CheckpointOutline(
                outputs, container: container, name: Self.name(of: path), metadata: metadata)
        case .directory(_, let shardByteCount):
            outline = try CheckpointOutline(outputs, shardByteCount: shardByteCount, metadata: metadata)
        }
        configuration = try builder.configuration(of: made.model, plan: plan)
    }

    /// The last part of a path.
    package static func name(of path: String) -> String {
        String(path.utf8.split(separator: UInt8(ascii: "/")).last ?? Substring(path).utf8) ?? path
    }
}

extension ConversionBuilder {
    // MARK: The same names

    /// Every tensor under its own name.
    mutating func keepNames() throws(CheckpointError) -> [Conversion.Part: [Conversion.Fate]] {
        guard let source = inputs[.source] else { return [:] }
        let all = source.checkpoint.tensors
        // A model whose head is not the embedding has both, though they be the same.
        let isUntied =
            source.model != nil && source.configuration?.root["tie_word_embeddings"]?.bool == false
            && options.destination.isOfSafetensors
        // What has another name for it comes first.
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

    /// Every tensor that a model has in a layout, from wherever it is to come.
    mutating func lay(
        out layout: TensorLayout, plan: LayerPlan?
    ) throws(CheckpointError) -> (model: ModelDescription?, fates: [Conversion.Part: [Conversion.Fate]]) {
        guard let source = inputs[.source]?.model else {
            throw error(
                .unsupported, "it is no model of a known family, whose tensors have known roles",
                advice: "give its config.json by --config")
        }
        let teacher = inputs[.teacher]?.model
        if inputs[.teacher] != nil, teacher == nil {
            throw error(.unsupported, in: .teacher, "it is no model of a known family")
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
                    .malformed, "config.json has the embedding for its head, and there is a head that differs",
                    advice: "set tie_word_embeddings to false if the head is meant")
            }
        } else if let teacher {
            guard source.layout?.omitsFrozen == true else {
                throw error(
                    .unsupported, "--teacher goes with --plan, or with a training checkpoint of RWKVInside")
            }
            target = source.completed(by: teacher)
            isTied = try isTrainedHeadTied()
        } else {
            target = source
        }
        // Each family has names of its own in it.
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

    /// Refuses models that are not what their configuration says, or whose weights are not numbers.
    private func check(_ model: ModelDescription, _ part: Conversion.Part) throws(CheckpointError) {
        if let quantisation = model.quantisation {
            throw error(.unsupported, in: part, quantisation.obstacle)
        }
        let tensors = inputs[part]?.checkpoint.tensors
        if part == .source, let name = tensors?.first(where: { Adapter.split($0.name) != nil })?.name {
            throw error(
                .unsupported, "parts of an adapter are among its tensors", tensor: name,
                advice: "give the model that it was trained on, and this by --adapter")
        }
        if let finding = model.findings.first(where: { $0.kind == .contradiction }) {
            throw error(.malformed, in: part, finding.message)
        }
    }

    /// The student that a plan makes of a transformer.
    private func student(of source: ModelDescription, _ plan: LayerPlan) throws(CheckpointError) -> ModelDescription {
        if let obstacle = source.obstacle(options.mayBeUnused) {
            let isLarger = source.findings.contains { $0.kind == .otherModel }
            throw error(
                .unsupported, "it cannot be converted faithfully: \(obstacle)",
                advice: isLarger ? "--allow-unused 'GLOB' leaves out the tensors of another model" : nil)
        }
        guard let architecture = ArchitectureRegistry.target(named: plan.target),
            let student = source.student(
                architecture, attention: Set(plan.attentionLayers), ranks: plan.ranks,
                turnsAttention: plan.switches.turnsAttention, firstValues: plan.switches.firstValues)
        else { throw error(.unsupported, "its sizes are not known") }
        return student
    }

    private func differ(_ what: String, _ own: some Any, _ other: some Any) -> CheckpointError {
        error(
            .malformed, "\(what) is not what it is in \(inputs[.teacher]?.checkpoint.path ?? "the teacher")",
            expected: "\(other)", found: "\(own)")
    }

    /// A student with the attention of its teacher where a plan has it.
    private func restored(
        _ student: ModelDescription, _ teacher: ModelDescription, _ plan: LayerPlan
    ) throws(CheckpointError) -> ModelDescription {
        if let obstacle = teacher.obstacle(options.mayBeUnused) {
            throw error(.unsupported, in: .teacher, "it is not a student's teacher: \(obstacle)")
        }
        guard student.architecture.variants.contains(plan.target) else {
            throw error(
                .unsupported, "the plan is for another kind of student", expected: plan.target,
                found: student.variant ?? student.architecture.family)
        }
        guard student.layers.count == plan.layers.count else {
            throw error(
                .malformed, "the plan is for another number of layers", expected: "\(plan.layers.count)",
                found: "\(student.layers.count)")
        }
        for dimension in Dimension.allCases
        where !Dimension.ranks.contains(dimension) && dimension != .valueResidualWidth {
            let (own, other) = (student.dimensions[dimension], teacher.dimensions[dimension])
            guard own == nil || own == other else { throw differ(dimension.title, own ?? 0, other ?? 0) }
        }
        if let own = student.epsilon, let other = teacher.epsilon, own != other {
            throw differ("the epsilon of norms", own, other)
        }
        if let own = student.rotary, let other = teacher.rotary, own != other {
            throw differ("the rotation", "\(own.type) \(own.theta)", "\(other.type) \(other.theta)")
        }
        let root = inputs[.source]?.configuration?.root
        for (key, value) in plan.switches.configuration {
            guard let own = root?[key.text], own != .null, own != value else { continue }
            throw error(
                .malformed, "the plan has it that \(key) is \(value), and the student was trained with another",
                found: own.description)
        }
        let attention = Set(plan.attentionLayers)
        if let layer = student.layers.indices.first(where: {
            student.layers[$0].kind.hasCache && !attention.contains($0)
        }) {
            throw error(
                .malformed, "layer \(layer) is attention, and the plan has time mixing there",
                advice: "only the other way round is there something to put in its place")
        }
        return student.restored(
            from: teacher, attention: attention, turnsAttention: plan.switches.turnsAttention,
            firstValues: plan.switches.firstValues)
    }

    /// Refuses changes to one of two tensors that are the same: which of them the model goes by then, nobody knows.
    func checkHead() throws(CheckpointError) {
        let both = [tensor(.source, .head), tensor(.source, .embedding)].compactMap { $0 }
        guard both.count == 2,
            both.contains(where: {
                changes.merges[$0.position] != nil || changes.replacements[$0.position] != nil
            }), try isHeadTied(.source)
        else { return }
        throw error(
            .unsupported, in: .adapter,
            "it changes the embedding or the head, which are one in \(inputs[.source]?.checkpoint.path ?? "the model")",
            advice: "set tie_word_embeddings to false if they are to differ")
    }

    /// Whether the embedding is the head, by storage, by name, or because the configuration says so and they are the same.
    private func isHeadTied(_ part: Conversion.Part) throws(CheckpointError) -> Bool {
        guard let model = inputs[part]?.model, let embedding = tensor(part, .embedding) else { return false }
        guard let head = tensor(part, .head) else { return model.hasTiedHead }
        if representative(of: head) == representative(of: embedding) { return true }
        return model.hasTiedHead ? try isSame(head, embedding) : false
    }

    /// Whether the head of a model of which a part was trained is its embedding: trained, the embedding is the teacher's head no more.
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
        /// What it is for there.
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
                // Heads of time mixing are normed by w, and know no scale of queries.
                if TensorRole.headNorms.contains(role), model.architecture.body.norm == .rmsOfOnePlus { own.offset = 1 }
                if place.role.takesQueryScale(hasNorm: target.optionalRoles.contains(.receptanceNorm)) {
                    own.factor *= model.queryFactor(ofLayer: layer)
                }
            }
            return own
        }
        if plan == nil, let own = find(.teacher, place.role) { return own }
        guard place.role == .head else { return nil }
        // Not the trained embedding: the teacher's was its head.
        return (plan == nil ? find(.teacher, .embedding) : nil) ?? find(.source, .embedding)
    }

    private mutating func add(
        _ tensor: ModelDescription.ExpectedTensor, of target: ModelDescription, _ layout: TensorLayout,
        _ plan: LayerPlan?
    ) throws(CheckpointError) {
        let place = TensorPlace(role: tensor.role, layer: tensor.layer)
        // What holds the rows of several roles is made with the first of them.
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
                    "the layout \(layout.name) has in one tensor what are several here (\(name))", tensor: info.name)
            }
            var sizes = input.sizes(info, of: source.role)
            if let rows = steps.rows { sizes?[0] = rows.count }
            let expected = fusion.count > 1 ? target.dimensions.shape(of: fusion) : tensor.shape
            guard let sizes, expected == nil || sizes == expected || tensor.role.shape.isEmpty else {
                throw error(
                    .malformed, in: origin.part, "a tensor has other sizes than what is made needs (\(name))",
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
                .malformed, "\(known) lack\(inputs[.teacher] == nil ? "s" : "") what becomes \(name)", tensor: nil,
                expected: tensor.shape.map { "\(tensor.role.rawValue) \($0)" } ?? tensor.role.rawValue,
                advice: inputs[.teacher] == nil && inputs[.source]?.model?.layout?.omitsFrozen == true
                    ? "--teacher gives what was not trained" : nil)
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

    /// Why a tensor that nothing is made of may be dropped; nil where it may not.
    private func reason(
        _ tensor: Conversion.InputTensor, _ info: TensorInfo, _ target: ModelDescription, _ plan: LayerPlan?
    ) -> String? {
        guard let model = inputs[tensor.part]?.model else { return nil }
        if model.layout?.isStray(info.name) == true { return "a copy that nothing uses" }
        guard let place = places[tensor]?.first else { return nil }
        switch tensor.part {
        case .teacher: return plan == nil ? "the trained one is taken" : "the student's is taken"
        case .adapter: return nil
        case .source: break
        }
        if target.architecture.timeMix?.residualRoles.contains(place.role) == true,
            place.layer == target.layerOfFirstValues
        {
            return "nothing uses the residuals of the first time mixing"
        }
        if place.role == .head { return "the head is the embedding" }
        if plan != nil, inputs[.teacher] != nil { return "the layer takes its teacher's attention" }
        if plan != nil { return "\(target.variant ?? "the student") has nothing of this kind" }
        return nil
    }
}

extension LayerPlan.ProjectionFactors {
    /// What the projection that a role is a part of is multiplied with; norms of heads are not.
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
    /// Whether tensors of the same bytes are written one by one.
    var isOfSafetensors: Bool {
        if case .file(_, .pyTorch, _) = self { false } else { true }
    }
}
