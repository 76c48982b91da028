public import RWKVNumerics

/// AdamW over the trainable weights of a model (Loshchilov and Hutter 2019), with gradients clipped by their global norm.
public struct AdamW<Element: Real> {
    /// Decay rates of the first and second moments.
    private static var betas: (Double, Double) { (0.9, 0.95) }
    /// Added to the square root of the second moment.
    private static var epsilon: Double { 1e-8 }

    /// The global gradient norm to which larger gradients are scaled down.
    public var clip = 1.0
    /// The number of steps that changed the weights.
    public internal(set) var steps = 0
    /// First and second moments of the gradients, a pair for each parameter.
    let moments: [(first: Matrix<Element>, second: Matrix<Element>)]

    /// An optimiser before its first step.
    public init(of parameters: [TrainedModel<Element>.Parameter]) {
        moments = parameters.map { parameter in
            let (rows, columns) = (parameter.values.rows, parameter.values.columns)
            return (Matrix(zeros: rows, columns: columns), Matrix(zeros: rows, columns: columns))
        }
    }

    /// Updates the parameters, unless the gradient norm is not finite; clears the gradients in any case.
    ///
    /// - Parameters:
    ///   - parameters: those that the optimiser was made for.
    ///   - count: the number of accumulated batches.
    ///   - rate: the learning rate, scaled for each parameter by its `rateScale`.
    ///   - kernels: the kernels to use.
    /// - Returns: the global gradient norm, averaged over batches, before clipping.
    public mutating func step(
        _ parameters: [TrainedModel<Element>.Parameter], averaging count: Int, rate: Double, _ kernels: Kernels<Element>
    ) -> Double {
        defer { for parameter in parameters { parameter.gradient.clear() } }
        let squares = parameters.reduce(0) { $0 + kernels.sumOfSquares($1.gradient) }
        let norm = squares.squareRoot() / Double(count)
        guard norm.isFinite else { return norm }
        steps += 1
        // 1e-6 as in PyTorch's clip_grad_norm_.
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
        // Beyond 10,000 steps, 1 - base^count rounds to 1.
        (0..<min(count, 10_000)).reduce(1) { power, _ in power * base }
    }
}
