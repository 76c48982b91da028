public import Bytes
public import CheckpointFiles
public import ModelFamilies

/// The learning-rate scale and weight decay that are used to train a weight.
public struct Training: Sendable, Hashable {
    /// The factor that scales the learning rate.
    public var rateScale = 1.0
    /// The weight-decay coefficient, which is multiplied by the learning rate in each step.
    public var weightDecay = 0.0

    /// Creates training settings that use the run's learning rate without weight decay.
    public init() {}
}

/// Rules that determine which weights to train, and how; the last rule that matches a weight applies to it.
public struct TrainingRules: Sendable, Hashable {
    /// A rule that trains or freezes the weights that it matches.
    public struct Rule: Sendable, Hashable {
        /// A glob pattern for tensor names, or the name of a preset.
        public let pattern: String
        /// The learning-rate scale and weight decay of the weights; nil to freeze them.
        public let training: Training?

        /// Creates a rule for the weights that match a pattern.
        public init(_ pattern: String, _ training: Training?) {
            self.pattern = pattern
            self.training = training
        }
    }

    /// The rules, in order; later rules override earlier ones.
    public var rules: [Rule]

    /// A named set of weights.
    public enum Preset: String, Sendable, CaseIterable {
        /// All weights of time mixing and attention.
        ///
        /// Training these weights in a hybrid student is what RWKVInside calls hybrid simultaneous learning.
        case mixers
        /// The weights of time mixing only.
        case rwkv
        /// The weights of attention only.
        case attention
        /// The receptance, key and value projections of time mixing, which RWKVInside freezes with `freeze_attention`.
        case projections
        /// The weights of the feed-forward blocks.
        case mlp
        /// The weights of the norms before and after the blocks of each layer.
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

    /// Creates rules from a list in which later rules override earlier ones.
    public init(_ rules: [Rule]) { self.rules = rules }

    /// Returns the weights of a student that the rules train.
    ///
    /// - Parameters:
    ///   - checkpoint: the student's checkpoint.
    ///   - description: the description of the student.
    ///   - scope: the set of weights that have gradients; nil if all layer weights do.
    /// - Returns: the weights to train, with the learning-rate scale and weight decay of each.
    /// - Throws: `CheckpointError` of category `unsupported` if a rule does not match any trainable weight, or if all
    ///   weights are frozen.
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
                    "a training rule matches no trainable weight: \(rule.pattern)",
                    advice: scope == .rwkv
                        ? "stage 1 trains only time mixing"
                        : "the embedding, the final norm and the head are always frozen")
            }
        }
        guard !trained.isEmpty else {
            throw CheckpointError(.unsupported, path: checkpoint.path, "all trainable weights are frozen")
        }
        return trained
    }
}

extension ModelDescription {
    /// Returns whether a weight can be trained, that is, whether it belongs to a layer and affects the model's output.
    fileprivate func canTrain(_ place: TensorPlace) -> Bool {
        guard let layer = place.layer, let timeMix = architecture.timeMix else { return false }
        guard layers[layer].kind.carriesState else { return true }
        return !(layer == layerOfFirstValues && timeMix.residualRoles.contains(place.role))
            && !timeMix.unusedRoles.contains(place.role)
    }
}
