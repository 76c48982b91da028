import CheckpointFiles
import ModelFamilies

/// What a distillation does.
public struct DistillationSettings: Sendable, Hashable {
    /// What is learnt.
    public enum Stage: Sendable, Hashable {
        /// What single layers give.
        case alignment(Alignment)
        /// Logits; each of the temperatures holds for as many steps.
        case divergence(LogitDivergence, temperatures: [Double])
    }

    /// What is learnt.
    public var stage: Stage
    /// How many steps there are.
    public var steps: Int
    /// Sequences of a step, or of the parts whose gradients it adds up.
    public var batch = 8
    /// Tokens of a sequence.
    public var context = 512
    /// Parts of a step, computed one after the other.
    public var accumulate = 1
    /// Over the run.
    public var learningRate: LearningRate
    /// The largest norm of all gradients together.
    public var clip = 1.0
    /// Of the order of sequences.
    public var seed: UInt64 = 1
    /// What is trained.
    public var rules = TrainingRules([.init(TrainingRules.Preset.mixers.rawValue, Training())])
    /// What is trained in the place of projections; nil for themselves.
    public var adapters: TrainedAdapters?

    /// Tokens of a step.
    public var tokens: Int { batch * context * accumulate }

    /// A run of so many steps.
    public init(_ stage: Stage, steps: Int, learningRate: LearningRate) {
        (self.stage, self.steps, self.learningRate) = (stage, steps, learningRate)
    }
}

extension DistillationSettings {
    /// All settings as text, each under its name.
    var members: [(name: String, value: String)] {
        func firstValues(_ passes: Bool) -> (String, String) { ("first values", passes ? "joined" : "detached") }
        var members: [(name: String, value: String)] = []
        switch stage {
        case .alignment(let alignment):
            members = [
                ("stage", "1"), ("loss", alignment.loss.rawValue), firstValues(alignment.passesFirstValues),
            ]
        case .divergence(let divergence, let temperatures):
            members = [
                ("stage", "2"), ("temperatures", "\(temperatures) of \(divergence.divides.rawValue)"),
                ("cross entropy", "\(divergence.crossEntropyWeight)"), firstValues(divergence.passesFirstValues),
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

    /// All settings in one line.
    package var text: String { members.map { "\($0.name) \($0.value)" }.joined(separator: ", ") }

    /// Throws where no run can have these settings.
    ///
    /// - Parameter path: of the student, for errors.
    /// - Throws: ``CheckpointError`` of category `unsupported`.
    func check(path: String) throws(CheckpointError) {
        func check(_ isValid: Bool, _ name: String, _ expected: String, _ found: some CustomStringConvertible)
            throws(CheckpointError)
        {
            guard !isValid else { return }
            throw CheckpointError(
                .unsupported, path: path, "no run can have these settings", expected: "\(name) \(expected)",
                found: "\(found)")
        }
        let counts = [
            ("steps", steps, 1...1 << 30), ("batch", batch, 1...4096), ("context", context, 1...1 << 20),
            ("accumulate", accumulate, 1...4096), ("warm-up", learningRate.warmUp, 0...1 << 30),
            ("adapters of rank", adapters?.rank ?? 1, 1...1 << 16),
        ]
        for (name, value, range) in counts {
            try check(range ~= value, name, "from \(range.lowerBound) to \(range.upperBound)", value)
        }
        try check(batch * context <= 1 << 20, "batch times context", "at most \(1 << 20)", batch * context)
        for (name, value) in [("learning rate", learningRate.initial), ("clip", clip)] {
            try check(value > 0 && value.isFinite, name, "a positive number", value)
        }
        let final = learningRate.final
        try check(final >= 0 && final.isFinite, "final learning rate", "no negative number", final)
        guard case .divergence(let divergence, let temperatures) = stage else { return }
        let areValid = !temperatures.isEmpty && temperatures.allSatisfy { $0 > 0 && $0.isFinite }
        try check(areValid, "temperatures", "positive numbers", temperatures)
        let weight = divergence.crossEntropyWeight
        try check(weight >= 0 && weight.isFinite, "cross entropy", "no negative number", weight)
    }
}
