import RWKVNumerics

/// The learning-rate schedule of a training run.
public struct LearningRate: Sendable, Hashable {
    /// The learning rate at the start of the run, before the warm-up factor is applied.
    public var initial: Double
    /// The learning rate that the schedule approaches at the end of the run; not used by `constant`.
    public var final: Double
    /// The curve from the initial to the final learning rate.
    public var schedule = Schedule.quarterCosine
    /// The number of warm-up steps, during which the learning rate is scaled by a factor that grows linearly from 0.01
    /// to 1.
    public var warmUp = 10

    /// A curve from the initial to the final learning rate, as a function of the completed fraction p of the run.
    public enum Schedule: String, Sendable, CaseIterable {
        /// final + (initial - final) cos(p pi / 2), which decays slowly at first (RADLADS).
        case quarterCosine = "quarter-cosine"
        /// final + (initial - final) (1 + cos(p pi)) / 2.
        case halfCosine = "half-cosine"
        /// initial (final / initial)^p (RWKVInside).
        case exponential
        /// The initial learning rate throughout the run.
        case constant
    }

    /// Creates a quarter-cosine schedule; the final rate defaults to a hundredth of the initial rate.
    public init(_ initial: Double, final: Double? = nil) {
        self.initial = initial
        self.final = final ?? initial / 100
    }

    /// Returns the learning rate of a step.
    ///
    /// - Parameters:
    ///   - step: the index of the step, starting at 0.
    ///   - steps: the number of steps in the run.
    /// - Returns: the learning rate.
    public func rate(at step: Int, of steps: Int) -> Double {
        let done = Double(step) / Double(max(1, steps))
        let rate =
            switch schedule {
            case .quarterCosine: final + (initial - final) * sineAndCosine(.pi / 2 * done).cosine
            case .halfCosine: final + (initial - final) * (1 + sineAndCosine(.pi * done).cosine) / 2
            case .exponential: initial * exponential(done * (logarithm(final) - logarithm(initial)))
            case .constant: initial
            }
        return step < warmUp ? rate * (0.01 + 0.99 * Double(step) / Double(warmUp)) : rate
    }
}
