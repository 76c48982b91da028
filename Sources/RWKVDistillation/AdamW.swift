public import RWKVNumerics

/// AdamW over the weights of a model that change (Loshchilov and Hutter 2019), with gradients clipped by their global norm.
public struct AdamW<Element: Real> {
    /// How much of the moments stays from step to step.
    private static var betas: (Double, Double) { (0.9, 0.95) }
    /// Added to the root of the second moment.
    private static var epsilon: Double { 1e-8 }

    /// The largest norm of all gradients together.
    public var clip = 1.0
    /// Steps that were made.
    public internal(set) var steps = 0
    /// Of gradients and of their squares, a pair for each weight.
    let moments: [(first: Matrix<Element>, second: Matrix<Element>)]

    /// An optimiser that has made no step.
    public init(of parameters: [TrainedModel<Element>.Parameter]) {
        moments = parameters.map { parameter in
            let (rows, columns) = (parameter.values.rows, parameter.values.columns)
            return (Matrix(zeros: rows, columns: columns), Matrix(zeros: rows, columns: columns))
        }
    }

    /// Makes a step, unless gradients are not finite, and gradients zero.
    ///
    /// - Parameters:
    ///   - parameters: those it was made for.
    ///   - count: how many gradients were added up.
    ///   - rate: the learning rate, of which each weight takes its part.
    ///   - kernels: what it is computed with.
    /// - Returns: the norm of all gradients, before they were clipped.
    public mutating func step(
        _ parameters: [TrainedModel<Element>.Parameter], averaging count: Int, rate: Double, _ kernels: Kernels<Element>
    ) -> Double {
        defer { for parameter in parameters { parameter.gradient.clear() } }
        let squares = parameters.reduce(0) { $0 + kernels.sumOfSquares($1.gradient) }
        let norm = squares.squareRoot() / Double(count)
        guard norm.isFinite else { return norm }
        steps += 1
        // As PyTorch's clip_grad_norm_.
        let scale = min(1, clip / (norm + 1e-6)) / Double(count)
        let corrections = (1 - power(Self.betas.0, steps), 1 - power(Self.betas.1, steps))
        for (parameter, moments) in zip(parameters, moments) {
            kernels.adamW(
                parameter.values, gradient: parameter.gradient, moments: moments,
                AdamWStep(
                    gradientScale: scale, rate: rate * parameter.training.rateScale,
                    weightDecay: parameter.training.weightDecay, betas: Self.betas, corrections: corrections,
                    epsilon: Self.epsilon))
        }
        return norm
    }

    private func power(_ base: Double, _ count: Int) -> Double {
        // Beyond that 1 - base^count is 1.
        (0..<min(count, 10_000)).reduce(1) { power, _ in power * base }
    }
}
