public import RWKVNumerics

/// The AdamW optimiser for a model's trainable parameters, with gradients clipped by global norm (Loshchilov and Hutter
/// 2019).
public struct AdamW<Element: Real> {
    /// The exponential decay rates of the first and second moments.
    private static var betas: (Double, Double) { (0.9, 0.95) }
    /// The epsilon that is added to the square root of the second moment.
    private static var epsilon: Double { 1e-8 }

    /// The maximum global gradient norm; gradients with a larger norm are scaled down to it.
    public var clip = 1.0
    /// The number of steps that have changed the parameters.
    public internal(set) var steps = 0
    /// The first and second moments of the gradients of each parameter.
    let moments: [(first: Matrix<Element>, second: Matrix<Element>)]

    /// Creates an optimiser for the given parameters, with all moments zero.
    public init(of parameters: [TrainedModel<Element>.Parameter]) {
        moments = parameters.map { parameter in
            let (rows, columns) = (parameter.values.rows, parameter.values.columns)
            return (Matrix(zeros: rows, columns: columns), Matrix(zeros: rows, columns: columns))
        }
    }

    /// Updates the parameters unless the gradient norm is not finite, and clears the gradients in either case.
    ///
    /// - Parameters:
    ///   - parameters: the parameters that the optimiser was created for.
    ///   - count: the number of batches whose gradients were accumulated.
    ///   - rate: the learning rate, before it is multiplied by the `rateScale` of each parameter.
    ///   - kernels: the kernels to use.
    /// - Returns: the global norm, before clipping, of the gradients averaged over batches.
    public mutating func step(
        _ parameters: [TrainedModel<Element>.Parameter], averaging count: Int, rate: Double, _ kernels: Kernels<Element>
    ) -> Double {
        defer { for parameter in parameters { parameter.gradient.clear() } }
        let squares = parameters.reduce(0) { $0 + kernels.sumOfSquares($1.gradient) }
        let norm = squares.squareRoot() / Double(count)
        guard norm.isFinite else { return norm }
        steps += 1
        // As in PyTorch's clip_grad_norm_, 1e-6 is added to the norm.
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
        // After 10,000 steps, base^count is so small that 1 - base^count rounds to 1.
        (0..<min(count, 10_000)).reduce(1) { power, _ in power * base }
    }
}
