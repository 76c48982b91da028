import Bytes
import CheckpointFiles
import LayerPlanning
import ModelFamilies

extension ConversionBuilder {
    /// The input tensor that an output tensor is computed from, and the offset and factor to apply to its elements.
    struct Source {
        let tensor: Conversion.InputTensor
        /// The tensor's role in its own model.
        let role: TensorRole
        var offset = 0.0
        var factor = 1.0
    }

    func source(of place: TensorPlace, _ target: ModelDescription, _ plan: LayerPlan?) -> Source? {
        func find(_ part: Conversion.Part, _ role: TensorRole) -> Source? {
            tensor(part, role, layer: place.layer).map { Source(tensor: $0, role: role) }
        }
        let isOfAttention = target.architecture.attention?.roles.all.contains(place.role) == true
        if plan != nil, inputs[.teacher] != nil, isOfAttention { return find(.teacher, place.role) }
        if let own = find(.source, place.role) { return own }
        let copies = target.architecture.conversion?.copiesProjections ?? true
        if copies, let plan, inputs[.teacher] == nil, let role = place.role.counterpart,
            var own = find(.source, role)
        {
            own.factor = plan.projectionFactors.factor(of: place.role)
            if let model = inputs[.source]?.model, let layer = place.layer {
                // Head norms in time mixing multiply by w instead of 1 + w, so the 1 is added here. Time mixing also
                // has no query scale, so the scale becomes a factor.
                if TensorRole.headNorms.contains(role), model.architecture.body.norm == .rmsOfOnePlus { own.offset = 1 }
                if place.role.takesQueryScale(hasNorm: target.optionalRoles.contains(.receptanceNorm)) {
                    own.factor *= model.receptanceFactor(ofLayer: layer)
                }
            }
            return own
        }
        if plan == nil, let own = find(.teacher, place.role) { return own }
        guard place.role == .head else { return nil }
        // If the teacher's embeddings are tied, the head keeps the values of the teacher's embedding, not of the
        // trained one.
        return (plan == nil ? find(.teacher, .embedding) : nil) ?? find(.source, .embedding)
    }

    mutating func add(
        _ tensor: ModelDescription.ExpectedTensor, of target: ModelDescription, _ layout: TensorLayout,
        _ plan: LayerPlan?
    ) throws(CheckpointError) {
        let place = TensorPlace(role: tensor.role, layer: tensor.layer)
        // A fused tensor contains the rows of several roles. It is added once, for the first of these roles.
        let fusion = layout.fusion(of: tensor.role) ?? [tensor.role]
        guard fusion.first == tensor.role else { return }
        guard let name = layout.name(of: tensor.role, layer: tensor.layer) else {
            throw error(.unsupported, "the layout \(layout.name) has no name for \(tensor.role.rawValue)")
        }
        if let source = source(of: place, target, plan), let input = inputs[source.tensor.part] {
            let origin = source.tensor
            let info = input.checkpoint.tensors[origin.position]
            let (steps, sizes) = try steps(from: source, to: tensor, name: name, of: target, layout, plan)
            let expected = fusion.count > 1 ? target.dimensions.shape(of: fusion) : tensor.shape
            guard let sizes, expected == nil || sizes == expected || tensor.role.shape.isEmpty else {
                throw error(
                    .malformed, in: origin.part, "a tensor does not have the shape that the output needs (\(name))",
                    tensor: info.name, expected: expected.map { "\($0)" }, found: "\(sizes ?? info.shape)")
            }
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

    /// Returns the steps that turn a source into an output tensor, and the sizes that its role, or all roles that the
    /// layout fuses with it, then have; the sizes are nil if the source's shape does not fit its role.
    private func steps(
        from source: Source, to tensor: ModelDescription.ExpectedTensor, name: String, of target: ModelDescription,
        _ layout: TensorLayout, _ plan: LayerPlan?
    ) throws(CheckpointError) -> (Conversion.Steps, sizes: [Int]?) {
        guard let input = inputs[source.tensor.part], let model = input.model else { return (.init(), nil) }
        let (info, role) = (input.checkpoint.tensors[source.tensor.position], source.role)
        var sizes = input.sizes(info, of: role)
        var steps = Conversion.Steps()
        steps.offset = source.offset
        steps.factor = source.factor
        steps.isTransposed = model.layout?.isTransposed(role) != layout.isTransposed(tensor.role)
        let fusion = layout.fusion(of: tensor.role) ?? []
        let own = model.layout?.fusion(of: role) ?? []
        if fusion.isEmpty, let rows = model.bindings[TensorPlace(role: role, layer: tensor.layer)]?.rows {
            guard sizes == model.dimensions.shape(of: own) else { return (steps, nil) }
            sizes?[0] = rows.count
            // Fused vectors can be the rows of a matrix.
            let length = role.shape.count == 1 && info.shape.count == 2 ? info.shape[1] : 1
            steps.rows = rows.lowerBound / length..<rows.upperBound / length
        } else if !fusion.isEmpty, fusion != own {
            steps.followers = try fusion.dropFirst().map { role throws(CheckpointError) in
                let place = TensorPlace(role: role, layer: tensor.layer)
                return try follower(self.source(of: place, target, plan), of: source, role, name: name, target)
            }
            sizes = sizes == target.dimensions.shape(role.shape) ? target.dimensions.shape(of: fusion) : nil
        }
        if tensor.role == .receptanceWeight { steps.factor *= try headNormFactor(model, target, layout) }
        if [.shiftDown, .shiftUp].contains(tensor.role), case .rwkv6(let stages)? = target.architecture.timeMix,
            case .rwkv6(let others)? = model.architecture.timeMix, others.shiftOrder != stages.shiftOrder
        {
            steps.blocks = Conversion.BlockOrder(
                order: stages.shiftOrder.compactMap(others.shiftOrder.firstIndex),
                isOfColumns: (tensor.role == .shiftDown) != layout.isTransposed(tensor.role))
        }
        return (steps, sizes)
    }

    /// Returns the tensor of a role that comes after another tensor in a fused tensor.
    ///
    /// - Throws: `CheckpointError`: `unsupported` if the role has no tensor of its own, or if its tensor needs another
    ///   factor than the first one, or `malformed` if its shape is wrong.
    private func follower(
        _ source: Source?, of first: Source, _ role: TensorRole, name: String, _ target: ModelDescription
    ) throws(CheckpointError) -> Conversion.InputTensor {
        let layout = inputs[first.tensor.part]?.model?.layout
        guard let source, let info = info(source.tensor), source.tensor.part == first.tensor.part,
            layout?.fusion(of: source.role) == nil, layout?.fusion(of: first.role) == nil,
            (source.offset, source.factor) == (first.offset, first.factor)
        else {
            throw error(
                .unsupported, in: first.tensor.part, "a tensor of the fused tensor \(name) cannot be joined",
                tensor: self.info((source ?? first).tensor)?.name, expected: "a tensor for \(role.rawValue) alone")
        }
        guard layout?.sizes(ofStored: info.shape, source.role) == target.dimensions.shape(role.shape) else {
            throw error(
                .malformed, in: first.tensor.part,
                "a tensor does not have the shape that the output needs (\(name))", tensor: info.name,
                expected: target.dimensions.shape(role.shape).map { "\($0)" }, found: "\(info.shape)")
        }
        return source.tensor
    }

    func info(_ tensor: Conversion.InputTensor) -> TensorInfo? {
        inputs[tensor.part]?.checkpoint.tensors[tensor.position]
    }

    /// Returns the factor of the receptance that makes up for another epsilon of the GroupNorm on the heads' output.
    ///
    /// The output is proportional to the receptance, so its norm is the same with c times the receptance and c^2 times
    /// the epsilon.
    ///
    /// - Throws: `CheckpointError` of category `unsupported` if the factor is not a power of two, so that rounding would
    ///   change the receptance.
    private func headNormFactor(
        _ model: ModelDescription, _ target: ModelDescription, _ layout: TensorLayout
    ) throws(CheckpointError) -> Double {
        guard let epsilon = model.groupNormEpsilon, let other = target.groupNormEpsilon, epsilon != other,
            case .rwkv6? = model.architecture.timeMix
        else { return 1 }
        let factor = Double(Float((other / epsilon).squareRoot()))
        guard factor.significand == 1 else {
            throw error(
                .unsupported, "the heads' norm has another epsilon in the layout \(layout.name)",
                expected: "\(other)", found: "\(epsilon)")
        }
        return factor
    }

    /// Returns the reason why an unused tensor can be dropped; nil if it must not be dropped.
    func reason(
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
    /// Returns the factor of the projection that a role belongs to.
    ///
    /// It is 1 for all other roles, including head norms.
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
