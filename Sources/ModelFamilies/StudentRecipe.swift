import CheckpointJSON
import Glibc

/// How a teacher's layers are turned into time mixing of an architecture: new ranks, and what new tensors begin with.
public struct StudentRecipe: Sendable {
    /// A low-rank part's rank for a model whose heads are A channels wide together:
    /// factor * A ^ exponent, rounded to a multiple of 32, and at least a minimum.
    public struct Rank: Sendable {
        let minimum: Int
        let factor, exponent: Double

        init(_ minimum: Int, _ factor: Double, _ exponent: Double) {
            self.minimum = minimum
            self.factor = factor
            self.exponent = exponent
        }

        /// The rank at an attention width.
        public func callAsFunction(attentionWidth: Int) -> Int {
            max(minimum, Int((factor * pow(Double(attentionWidth), exponent) / 32).rounded(.toNearestOrEven)) * 32)
        }
    }

    /// The ranks of the low-rank parts.
    public let ranks: [Dimension: Rank]
    /// What tensors begin with that the teacher has not; those that are copied, and biases, are not among them.
    public let initialisers: [TensorRole: Initialiser]
    /// Whether attention layers that stay are run without rotation.
    public let turnsAttention: Bool
}

/// What a new tensor begins with; n is the channel, A the number of channels, l the layer, L the number of layers, N the head size.
///
/// Ramps are those of RWKV-LM's trainer (RWKV-v7/train_temp/src/model.py) and of RWKVInside (rwkv_inside/TimeMixer.py):
/// zz = z |z| with z from -1 to 1 over each head, lin from -1/2 to 1/2 over all channels.
public enum Initialiser: Sendable, Hashable {
    case constant(Double)
    /// Orthogonal rows, or columns, times a gain; the gain grows with sqrt(rows / columns) of tall matrices.
    case orthogonal(gain: Double)
    /// -7 + 5 (n / (A - 1)) ^ (0.85 + sqrt(l / (L - 1))) + 0.5
    case decayRamp
    /// -6 + 6 (n / (A - 1)) ^ (1 + (l / (L - 1)) ^ 0.3) + 0.5 + 2.5 zz
    case decayRampWithHeads
    /// -0.19 + 0.3 zz + 0.4 lin
    case iclrRamp

    /// As a plan calls it.
    public var name: String {
        switch self {
        case .constant: "constant"
        case .orthogonal: "orthogonal"
        case .decayRamp: "decay_ramp"
        case .decayRampWithHeads: "decay_ramp_with_heads"
        case .iclrRamp: "iclr_ramp"
        }
    }

    /// The number that it is given: a constant's value, a gain.
    public var value: Double? {
        switch self {
        case .constant(let value): value
        case .orthogonal(let gain): gain
        case .decayRamp, .decayRampWithHeads, .iclrRamp: nil
        }
    }

    /// The initialiser that a plan calls so; nil where there is none, or the value that it needs is missing.
    public init?(name: String, value: Double?) {
        let all: [Initialiser?] = [
            value.map { .constant($0) }, value.map { .orthogonal(gain: $0) }, .decayRamp, .decayRampWithHeads,
            .iclrRamp,
        ]
        guard let initialiser = all.compactMap({ $0 }).first(where: { ByteString($0.name) == ByteString(name) }),
            value?.isFinite ?? true
        else { return nil }
        self = initialiser
    }
}
