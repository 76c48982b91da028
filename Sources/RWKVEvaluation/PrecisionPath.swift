import CheckpointFiles

/// The kind of rounding that separates two models that should agree.
public enum PrecisionPath: String, Sendable, CaseIterable {
    /// Only fp32 sums were rounded.
    case fp32
    /// Weights were rounded to F16.
    case fp16Weights = "fp16_weights"
    /// Weights were rounded to BF16.
    case bf16Weights = "bf16_weights"
    /// Weights and all computed values were rounded to BF16.
    case bf16Compute = "bf16_compute"

    /// Returns the path of a weight that was converted from one dtype to another; widening does not round.
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
    /// Whether path `a` rounds less than path `b`.
    public static func < (a: PrecisionPath, b: PrecisionPath) -> Bool {
        (allCases.firstIndex(of: a) ?? 0) < (allCases.firstIndex(of: b) ?? 0)
    }
}

/// Limits on how far two models may differ and still match.
///
/// The limits were calibrated on a trained six-layer model. Rounding errors are several times smaller than the limits;
/// known conversion errors (transposed, swapped or omitted tensors, heads or RoPE wavelengths) exceed the limits. If
/// weights were rounded, a wrong epsilon stays within the limits, so constants are compared separately.
public struct VerificationLimits: Sendable, Hashable {
    /// The maximum NMSE: the squared error divided by the variance of the reference.
    public var nmse: Double
    /// The maximum mean KL divergence, in nats per token.
    public var meanKL: Double
    /// The maximum KL divergence of any token, in nats.
    public var maximumKL: Double
    /// The minimum top-1 agreement: among tokens where the reference has a clear first choice, the fraction where the
    /// candidate makes the same choice.
    public var top1: Double
    /// The maximum relative error of a block's output, given the reference's input; affects the verdict only if the
    /// caller sets this limit.
    public var block: Double
    /// The maximum absolute difference between two logits; nil for no limit.
    public var maximumDifference: Double?

    /// Creates the limits of a path for models with `layerCount` layers: rounding errors are independent, so their
    /// squares add up.
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

    /// The names of the limits in options and in JSON.
    public static let names = ["max_abs", "nmse", "kl_mean", "kl_max", "top1", "block"]

    /// The limit with the given name; nil if the name is unknown or the limit is not set.
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
