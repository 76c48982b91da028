import CheckpointFiles

/// The kind of rounding that separates a candidate from a reference that it should match.
public enum PrecisionPath: String, Sendable, CaseIterable {
    /// No weights were rounded, and values were computed in fp32.
    case fp32
    /// Weights were rounded to F16.
    case fp16Weights = "fp16_weights"
    /// Weights were rounded to BF16.
    case bf16Weights = "bf16_weights"
    /// Weights and all computed values were rounded to BF16.
    case bf16Compute = "bf16_compute"

    /// Returns the kind of rounding caused by converting a weight from one dtype to another; widening does not round.
    static func from(_ reference: DType, to candidate: DType) -> PrecisionPath {
        if reference == candidate { return .fp32 }
        switch candidate {
        case .f16: return .fp16Weights
        case .bf16: return .bf16Weights
        default: return .fp32
        }
    }
}

extension PrecisionPath: Comparable {
    /// Returns whether the first kind of rounding is more precise than the second.
    public static func < (a: PrecisionPath, b: PrecisionPath) -> Bool {
        (allCases.firstIndex(of: a) ?? 0) < (allCases.firstIndex(of: b) ?? 0)
    }
}

/// The limits that decide whether two models match.
///
/// The defaults were calibrated on a trained six-layer model. Rounding errors are several times smaller than the
/// limits, and known conversion errors, such as transposed, swapped or omitted tensors, heads or RoPE wavelengths,
/// exceed the limits. If weights were rounded, the error caused by a wrong epsilon is within the limits, so constants
/// are compared separately.
public struct VerificationLimits: Sendable, Hashable {
    /// The maximum normalised mean squared error of the logits.
    public var nmse: Double
    /// The maximum mean KL divergence, in nats per token.
    public var meanKL: Double
    /// The maximum KL divergence at any token, in nats.
    public var maximumKL: Double
    /// The minimum top-1 agreement: of the tokens at which the reference has a clear first choice, the fraction at
    /// which the candidate makes the same choice.
    public var top1: Double
    /// The maximum relative error of a block's output, when the block receives the same input as the reference's block.
    ///
    /// This limit affects the verdict only if the caller sets it.
    public var block: Double
    /// The maximum absolute difference between two logits; nil if there is no limit.
    public var maximumDifference: Double?

    /// Creates the default limits for a kind of rounding and a number of layers.
    ///
    /// Rounding errors of different layers are independent, so their squares add up. For models with more than six
    /// layers, all defaults except the block limit are therefore relaxed in proportion to the number of layers.
    public init(_ path: PrecisionPath, layerCount: Int) {
        switch path {
        case .fp32: (nmse, meanKL, maximumKL, top1, block) = (1e-10, 1e-7, 1e-5, 1, 1e-6)
        case .fp16Weights: (nmse, meanKL, maximumKL, top1, block) = (1e-6, 1e-5, 1e-3, 1, 3e-3)
        case .bf16Weights: (nmse, meanKL, maximumKL, top1, block) = (5e-5, 2e-4, 5e-3, 0.999, 2e-2)
        case .bf16Compute: (nmse, meanKL, maximumKL, top1, block) = (5e-4, 2e-3, 1e-1, 0.995, 5e-2)
        }
        let depth = max(1, Double(layerCount) / Self.calibratedLayerCount)
        nmse *= depth
        meanKL *= depth
        maximumKL *= depth
        top1 = 1 - (1 - top1) * depth
    }

    private static let calibratedLayerCount = 6.0

    /// The names of the limits, as used in options and in JSON.
    public static let names = ["max_abs", "nmse", "kl_mean", "kl_max", "top1", "block"]

    /// Accesses the limit with the given name; nil if the name is unknown or there is no limit.
    ///
    /// Setting a limit to nil has no effect, nor does setting a limit with an unknown name.
    public subscript(name: String) -> Double? {
        get {
            switch name {
            case "max_abs": maximumDifference
            case "nmse": nmse
            case "kl_mean": meanKL
            case "kl_max": maximumKL
            case "top1": top1
            case "block": block
            default: nil
            }
        }
        set {
            guard let newValue else { return }
            switch name {
            case "max_abs": maximumDifference = newValue
            case "nmse": nmse = newValue
            case "kl_mean": meanKL = newValue
            case "kl_max": maximumKL = newValue
            case "top1": top1 = newValue
            case "block": block = newValue
            default: break
            }
        }
    }
}
