public import Bytes
import CheckpointJSON
public import CheckpointFiles
public import LayerPlanning
import ModelFamilies

extension Conversion {
    /// Creates a complete description of a conversion, without writing anything.
    ///
    /// - With only a plan, the conversion turns a transformer into a student.
    /// - With a plan and a teacher, it replaces a student's time mixing with the teacher's attention in the layers that
    ///   the plan keeps as attention.
    /// - With only a teacher, it completes a training checkpoint, which contains only the tensors that were trained.
    /// - Otherwise, it writes the same model with different files, names or dtypes.
    ///
    /// - Parameters:
    ///   - source: the checkpoint to convert.
    ///   - teacher: the transformer that the student was made from.
    ///   - plan: the plan that says what each layer becomes. It must be a plan for the teacher or, if no teacher is
    ///     given, for the source.
    ///   - adapter: an adapter that changes the source's weights.
    ///   - adapterScale: the LoRA scale s in W + s B A, for adapters without adapter_config.json.
    ///   - options: the destination, layout and dtypes of the result.
    /// - Throws: `CheckpointError`: `malformed` or `unsupported` if the inputs, the plan and the options are invalid
    ///   or do not match; `inputOutput` if adapter_config.json cannot be read, or if the head and the embedding must be
    ///   compared and cannot be read.
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
        // If a layout is requested explicitly, the prefixes that wrappers add to names are removed as well.
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
                advice: "pass its config.json with --config")
        }
        tensors = builder.tensors
        self.inputs = inputs
        fates = made.fates
        self.layout = keepsNames ? source.model?.layout : layout
        model = made.model
        self.options = options
        let outputs = builder.tensors.map(\.output)
        // Metadata is valid only if the tensors and their names stay the same.
        let noted = Set(source.checkpoint.notedNames.map { ByteString($0.name) })
        let said = source.checkpoint.metadata.filter { !noted.contains($0.key) }
        let metadata = keepsNames && options.destination.isOfSafetensors ? said : [:]
        // Do not report "format": "pt" as omitted, because it is the default.
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

    /// Returns the last component of a path.
    package static func name(of path: String) -> String {
        String(path.utf8.split(separator: UInt8(ascii: "/")).last ?? Substring(path).utf8) ?? path
    }
}

extension ConversionBuilder {
    // MARK: Keeping names

    /// Adds every tensor of the source under its own name, and returns the fates of the source's tensors.
    mutating func keepNames() throws(CheckpointError) -> [Conversion.Part: [Conversion.Fate]] {
        guard let source = inputs[.source] else { return [:] }
        let all = source.checkpoint.tensors
        // A model with untied embeddings stores the head and the embedding separately, even if they are equal.
        let isUntied =
            source.model != nil && source.configuration?.root["tie_word_embeddings"]?.bool == false
            && options.destination.isOfSafetensors
        // Add each representative before the tensors that are tied to it.
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

    // MARK: Naming by role

    /// Adds every tensor of the resulting model under its name in a layout, and returns the model and the fates of all
    /// input tensors.
    mutating func lay(
        out layout: TensorLayout, plan: LayerPlan?
    ) throws(CheckpointError) -> (model: ModelDescription?, fates: [Conversion.Part: [Conversion.Fate]]) {
        guard let source = inputs[.source]?.model else {
            throw error(
                .unsupported,
                "the checkpoint is not a model of a known family, so the roles of its tensors are not known",
                advice: "pass its config.json with --config")
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
                throw plan.switches.tiesHead
                    ? error(
                        .malformed, "config.json ties the embeddings, but the checkpoint has a head that differs",
                        advice: "set tie_word_embeddings to false to use that head")
                    : error(
                        .malformed,
                        "config.json does not tie the embeddings, but the head and the embedding are the same tensor",
                        advice: "set tie_word_embeddings to true")
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
        // The names in a layout depend on the family, so use the layout of the resulting model's family.
        let layouts = ArchitectureRegistry.architectures(like: target.architecture).flatMap(\.layouts)
        guard let layout = layouts.first(where: { $0.name == layout.name }) else {
            let name = target.variant ?? target.architecture.family
            let body = target.architecture.teacherFamily.map { " with the body of \($0)" } ?? ""
            throw error(
                .unsupported, "\(name)\(body) has no such layout",
                expected: layouts.map(\.name).joined(separator: ", "), found: layout.name)
        }
        target = target.stored(in: layout, hasTiedHead: isTied)
        // A student's config.json records all of its settings. Other models have a class for each layout, whose
        // config.json records only what the class supports.
        if !target.architecture.hasTeachersBody, layout.name != source.layout?.name,
            let finding = source.findings.first(where: { $0.kind == .undescribed })
        {
            throw error(.unsupported, finding.message)
        }
        if let fixed = target.architecture.body.fixedEpsilon, target.architecture.configurations[layout.name] == nil,
            let epsilon = target.epsilon, epsilon != fixed
        {
            throw error(
                .unsupported, "the layout \(layout.name) has no config.json to record the epsilon of the norms",
                expected: "\(fixed)", found: "\(epsilon)")
        }
        for tensor in target.tensors { try add(tensor, of: target, layout, plan) }
        let fates = try fates { reason($0, $1, target, plan) }
        return (target, fates)
    }
}

extension ConversionOptions.Destination {
    /// Whether the result consists of safetensors files, in which tensors cannot share bytes.
    var isOfSafetensors: Bool {
        if case .file(_, .pyTorch, _) = self { false } else { true }
    }
}
