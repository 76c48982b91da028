import Bytes
import CheckpointFiles
import ModelFamilies

/// The settings of a distillation.
public struct DistillationSettings: Sendable, Hashable {
    /// A stage of distillation, which determines what the student learns and which loss it minimises.
    public enum Stage: Sendable, Hashable {
        /// Stage 1: each time-mixing layer learns to reproduce the output of the teacher's mixer.
        case alignment(Alignment)
        /// Stage 2: the student learns the teacher's logits; each temperature is used for an equal share of the steps,
        /// in order.
        case divergence(LogitDivergence, temperatures: [Double])
    }

    /// The stage of distillation.
    public var stage: Stage
    /// The number of optimiser steps.
    public var steps: Int
    /// The number of sequences per batch.
    public var batch = 8
    /// The number of tokens per sequence.
    public var context = 512
    /// The number of gradient-accumulation steps: the number of batches per optimiser step.
    public var accumulate = 1
    /// The learning-rate schedule.
    public var learningRate: LearningRate
    /// The maximum global gradient norm; gradients with a larger norm are scaled down to it.
    public var clip = 1.0
    /// The seed for shuffling the training sequences.
    public var seed: UInt64 = 1
    /// The rules that determine which weights to train, and how.
    public var rules = TrainingRules([.init(TrainingRules.Preset.mixers.rawValue, Training())])
    /// The adapters to train instead of projections; nil to train the projections themselves.
    public var adapters: TrainedAdapters?

    /// The number of tokens per optimiser step.
    public var tokens: Int { batch * context * accumulate }

    /// Creates settings for a stage, and uses defaults for all settings that are not given.
    public init(_ stage: Stage, steps: Int, learningRate: LearningRate) {
        (self.stage, self.steps, self.learningRate) = (stage, steps, learningRate)
    }
}

extension DistillationSettings {
    /// All settings as pairs of a name and a text value, as they are recorded in a saved state.
    var members: [(name: String, value: String)] {
        func firstValues(_ passes: Bool) -> (String, String) { ("first values", passes ? "joined" : "detached") }
        var members: [(name: String, value: String)] = []
        switch stage {
        case .alignment(let alignment):
            members = [
                ("stage", "1"), ("loss", alignment.loss.rawValue), firstValues(alignment.propagatesFirstValues),
            ]
        case .divergence(let divergence, let temperatures):
            members = [
                ("stage", "2"), ("temperatures", "\(temperatures) of \(divergence.divides.rawValue)"),
                ("cross entropy", "\(divergence.crossEntropyWeight)"), firstValues(divergence.propagatesFirstValues),
            ]
        }
        let rate = learningRate
        members += [
            ("steps", "\(steps)"), ("batch", "\(batch)"), ("context", "\(context)"), ("accumulate", "\(accumulate)"),
            ("rate", "\(rate.initial) to \(rate.final) by \(rate.schedule.rawValue)"), ("warm-up", "\(rate.warmUp)"),
            ("clip", "\(clip)"), ("seed", "\(seed)"),
        ]
        let rules = rules.rules.map { rule in
            rule.training.map { "\(rule.pattern)=\($0.rateScale)/\($0.weightDecay)" } ?? "-\(rule.pattern)"
        }
        members.append(("trains", rules.joined(separator: ",")))
        if let adapters { members.append(("adapters", "\(adapters.kind.rawValue):\(adapters.rank)")) }
        return members
    }

    /// All settings as text on one line.
    package var text: String { members.map { "\($0.name) \($0.value)" }.joined(separator: ", ") }

    /// Checks that all settings are in range.
    ///
    /// - Parameter path: the path of the student, for error messages.
    /// - Throws: `CheckpointError` of category `unsupported` if a setting is out of range.
    func check(path: String) throws(CheckpointError) {
        func check(_ isValid: Bool, _ name: String, _ expected: String, _ found: some CustomStringConvertible)
            throws(CheckpointError)
        {
            guard !isValid else { return }
            throw CheckpointError(
                .unsupported, path: path, "a training setting is out of range", expected: "\(name) \(expected)",
                found: "\(found)")
        }
        let counts = [
            ("steps", steps, 1...1 << 30), ("batch", batch, 1...4096), ("context", context, 1...1 << 20),
            ("accumulate", accumulate, 1...4096), ("warm-up", learningRate.warmUp, 0...1 << 30),
            ("adapter rank", adapters?.rank ?? 1, 1...1 << 16),
        ]
        for (name, value, range) in counts {
            try check(range ~= value, name, "from \(range.lowerBound) to \(range.upperBound)", value)
        }
        try check(batch * context <= 1 << 20, "batch times context", "at most \(1 << 20)", batch * context)
        for (name, value) in [("learning rate", learningRate.initial), ("clip", clip)] {
            try check(value > 0 && value.isFinite, name, "a positive number", value)
        }
        let final = learningRate.final
        try check(final >= 0 && final.isFinite, "final learning rate", "0 or greater", final)
        guard case .divergence(let divergence, let temperatures) = stage else { return }
        let areValid = !temperatures.isEmpty && temperatures.allSatisfy { $0 > 0 && $0.isFinite }
        try check(areValid, "temperatures", "positive numbers", temperatures)
        let weight = divergence.crossEntropyWeight
        try check(weight >= 0 && weight.isFinite, "cross entropy", "0 or greater", weight)
    }
}
