public import CheckpointFiles
public import ModelFamilies

/// How a weight is trained.
public struct Training: Sendable, Hashable {
    /// What the learning rate is multiplied with.
    public var rateScale = 1.0
    /// What of it is taken away at each step, times the rate.
    public var weightDecay = 0.0

    /// At the run's rate, with no decay.
    public init() {}
}

/// Which weights are trained, and how: of all rules that speak of a weight the last one holds.
public struct TrainingRules: Sendable, Hashable {
    /// What one rule says of the weights that it speaks of.
    public struct Rule: Sendable, Hashable {
        /// A shell pattern that a tensor's name fits, or the name of a preset.
        public let pattern: String
        /// Nil where they are frozen.
        public let training: Training?

        /// A rule.
        public init(_ pattern: String, _ training: Training?) {
            self.pattern = pattern
            self.training = training
        }
    }

    /// In their order.
    public var rules: [Rule]

    /// Sets of weights that have a name.
    public enum Preset: String, Sendable, CaseIterable {
        /// All that mixes tokens: in students, RWKVInside's hybrid simultaneous learning.
        case mixers
        /// What mixes tokens in the layers of RWKV.
        case rwkv
        /// What mixes tokens in the other layers.
        case attention
        /// Receptance, key and value of RWKV, which RWKVInside's attention freeze keeps.
        case projections
        /// The feed-forward parts.
        case mlp
        /// The norms around the blocks of layers.
        case norms

        func contains(_ place: TensorPlace, _ kind: LayerKind) -> Bool {
            switch self {
            case .mixers: place.role.part == .mixer && !Self.norms.contains(place, kind)
            case .rwkv: kind.carriesState && Self.mixers.contains(place, kind)
            case .attention: kind.hasCache && Self.mixers.contains(place, kind)
            case .projections:
                [
                    .receptanceWeight, .receptanceBias, .timeMixKeyWeight, .timeMixKeyBias, .timeMixValueWeight,
                    .timeMixValueBias,
                ].contains(place.role)
            case .mlp: place.role.part == .mlp && !Self.norms.contains(place, kind)
            case .norms:
                [
                    .mixerNormWeight, .mixerPostNormWeight, .feedForwardNormWeight, .feedForwardPostNormWeight,
                ].contains(place.role)
            }
        }
    }

    /// Rules in their order.
    public init(_ rules: [Rule]) { self.rules = rules }

    /// The weights of a student that are trained.
    ///
    /// - Parameters:
    ///   - checkpoint: the student.
    ///   - description: what it was found to be.
    ///   - scope: what there are gradients of; nil for all that layers have.
    /// - Returns: how each is trained.
    /// - Throws: ``CheckpointError`` of category `unsupported` where a rule speaks of no weight that can be trained.
    public func trained(
        in checkpoint: Checkpoint, _ description: ModelDescription, within scope: Preset? = nil
    ) throws(CheckpointError) -> [TensorPlace: Training] {
        let places = description.bindings.filter { place, _ in
            description.canTrain(place)
                && place.layer.map { scope?.contains(place, description.kinds[$0]) ?? true } == true
        }
        var trained: [TensorPlace: Training] = [:]
        for rule in rules {
            let preset = Preset(rawValue: rule.pattern)
            var isUsed = false
            for (place, binding) in places {
                guard let layer = place.layer else { continue }
                let speaks =
                    preset?.contains(place, description.kinds[layer])
                    ?? matches(checkpoint.tensors[binding.position].name, glob: rule.pattern)
                guard speaks else { continue }
                isUsed = true
                trained[place] = rule.training
            }
            guard isUsed else {
                throw CheckpointError(
                    .unsupported, path: checkpoint.path,
                    "a rule of training speaks of no weight that can be trained: \(rule.pattern)",
                    advice: scope == .rwkv
                        ? "stage 1 trains time mixing alone" : "embeddings, the final norm and the head are frozen")
            }
        }
        guard !trained.isEmpty else {
            throw CheckpointError(.unsupported, path: checkpoint.path, "all that could be trained is frozen")
        }
        return trained
    }
}

extension ModelDescription {
    /// Whether a weight has an influence that gradients are made of.
    fileprivate func canTrain(_ place: TensorPlace) -> Bool {
        guard let layer = place.layer, let timeMix = architecture.timeMix else { return false }
        guard layers[layer].kind.carriesState else { return true }
        return !(layer == layerOfFirstValues && timeMix.residualRoles.contains(place.role))
            && place.role != .architectureRecord && place.role != .headSizeRecord
    }
}
