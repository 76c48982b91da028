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
                    "the layout \(layout.name) fuses tensors that are separate here (\(name))",
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
