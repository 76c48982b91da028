import CheckpointFiles

/// What was rounded between two models that should agree.
public enum PrecisionPath: String, Sendable, CaseIterable {
    /// Nothing but fp32 sums were rounded.
    case fp32
    /// Weights were rounded to F16.
    case fp16Weights = "fp16_weights"
    /// Weights were rounded to BF16.
    case bf16Weights = "bf16_weights"
    /// Weights and all computed numbers were rounded to BF16.
    case bf16Compute = "bf16_compute"

    /// The path of a weight that was converted from one dtype to another; widening does not round.
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
    /// Whether less was rounded on path `a`.
    public static func < (a: PrecisionPath, b: PrecisionPath) -> Bool {
        (allCases.firstIndex(of: a) ?? 0) < (allCases.firstIndex(of: b) ?? 0)
    }
}

/// How far two models may differ and still match.
///
/// The limits were calibrated on a trained model of six layers: rounding errors stay a few times below them, and known conversion
/// errors (transposed, exchanged or forgotten tensors, heads or RoPE wavelengths) exceed them. A wrong epsilon stays below them
/// if weights were rounded, so constants are compared separately.
public struct VerificationLimits: Sendable, Hashable {
    /// NMSE: the squared error divided by the variance of the reference.
    public var nmse: Double
    /// The mean KL divergence, in nats per token.
    public var meanKL: Double
    /// The largest KL divergence of a token, in nats.
    public var maximumKL: Double
    /// The lowest top-1 agreement: the fraction of tokens with the same first choice, of those where the reference's is clear.
    public var top1: Double
    /// The relative error of a block's output on the reference's own input above which the block diverges; the verdict depends on
    /// it only if this limit was set.
    public var block: Double
    /// The largest absolute difference of two logits; nil for no limit.
    public var maximumDifference: Double?

    /// The limits of a path, for models of `layerCount` layers: rounding errors are independent, so their squares add up.
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

    /// The names of the limits, in options and in JSON.
    public static let names = ["max_abs", "nmse", "kl_mean", "kl_max", "top1", "block"]

    /// The limit of this name; nil if it is unknown or not set.
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
