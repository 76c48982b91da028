import CheckpointFiles

/// What was rounded between two models that are to agree.
public enum PrecisionPath: String, Sendable, CaseIterable {
    /// Nothing but sums in fp32.
    case fp32
    /// Weights, to F16.
    case fp16Weights = "fp16_weights"
    /// Weights, to BF16.
    case bf16Weights = "bf16_weights"
    /// Weights and all that was computed, to BF16.
    case bf16Compute = "bf16_compute"

    /// The path on which a weight of one type became one of another: what was widened was not rounded.
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
    /// Whether less was rounded on the first.
    public static func < (a: PrecisionPath, b: PrecisionPath) -> Bool {
        (allCases.firstIndex(of: a) ?? 0) < (allCases.firstIndex(of: b) ?? 0)
    }
}

/// How far two models may be apart and still be the same.
///
/// Calibrated on a trained model of six layers: rounding stays a few times below them, and the known errors of conversions (transposed,
/// exchanged, forgotten tensors, heads or wavelengths) above. Another epsilon is below where weights were rounded, and is told by itself.
public struct VerificationLimits: Sendable, Hashable {
    /// The squared error by the variance of the reference.
    public var nmse: Double
    /// The mean divergence, in nats.
    public var meanKL: Double
    /// The largest divergence of a token, in nats.
    public var maximumKL: Double
    /// The share of tokens with the same most likely next one, of those where the reference is clear about it.
    public var top1: Double
    /// The relative error of a block's output on the reference's own input, from which on it is said to diverge; what differs is judged
    /// by logits, and by blocks only where this limit was set.
    public var block: Double
    /// The largest difference of two logits; nil for any.
    public var maximumDifference: Double?

    /// The limits of a path, for models of so many layers: errors of rounding are independent, and their squares add up.
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

    /// The names by which users speak of them, which are those of JSON too.
    public static let names = ["max_abs", "nmse", "kl_mean", "kl_max", "top1", "block"]

    /// The limit of a name; nil where there is none.
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
