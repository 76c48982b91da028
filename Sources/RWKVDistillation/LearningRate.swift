import RWKVNumerics

/// The learning rate over a run.
public struct LearningRate: Sendable, Hashable {
    /// At the start, behind the warm-up.
    public var initial: Double
    /// At the end.
    public var final: Double
    /// How it goes from one to the other.
    public var schedule = Schedule.quarterCosine
    /// Steps over which it grows from a hundredth.
    public var warmUp = 10

    /// How it goes from the initial to the final rate, p being the part of the run that is done.
    public enum Schedule: String, Sendable, CaseIterable {
        /// final + (initial - final) cos(p pi / 2), which falls late (RADLADS).
        case quarterCosine = "quarter-cosine"
        /// final + (initial - final) (1 + cos(p pi)) / 2.
        case halfCosine = "half-cosine"
        /// initial (final / initial)^p (RWKVInside).
        case exponential
        /// initial.
        case constant
    }

    /// A rate that falls to a hundredth if nothing else is said.
    public init(_ initial: Double, final: Double? = nil) {
        self.initial = initial
        self.final = final ?? initial / 100
    }

    /// The rate of a step.
    ///
    /// - Parameters:
    ///   - step: from 0 on.
    ///   - steps: how many there are.
    /// - Returns: the rate.
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
