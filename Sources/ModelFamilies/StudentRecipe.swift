import Bytes
import Glibc

/// A recipe for converting a teacher's attention to time mixing: the ranks and initial values of new tensors.
public struct StudentRecipe: Sendable {
    /// The rule for the rank of a low-rank part.
    ///
    /// The rank is factor * A ^ exponent, where A is the model's attention width or another dimension of the recipe. It
    /// is rounded to a multiple of 32, and is not less than `minimum`.
    public struct Rank: Sendable {
        let minimum: Int
        let factor, exponent: Double

        /// Creates a rule that gives the same rank for all widths.
        init(_ rank: Int) { self.init(rank, 0, 0) }

        init(_ minimum: Int, _ factor: Double, _ exponent: Double) {
            self.minimum = minimum
            self.factor = factor
            self.exponent = exponent
        }

        /// Returns the rank in a model with the given width A.
        public func callAsFunction(width: Int) -> Int {
            max(minimum, Int((factor * pow(Double(width), exponent) / 32).rounded(.toNearestOrEven)) * 32)
        }
    }

    /// The ranks of the low-rank parts.
    public let ranks: [ModelDimension: Rank]
    /// The dimension used as A in the rank rules.
    var ranksFollow = ModelDimension.attentionWidth
    /// The initial values of tensors that the teacher lacks, except biases.
    ///
    /// Tensors that the teacher has are copied.
    public let initialisers: [TensorRole: Initialiser]
    /// Whether the remaining attention layers use RoPE by default; a plan can override this setting.
    public let attentionUsesRoPE: Bool
    /// A sentence to include in plan reports, or nil for none.
    public internal(set) var note: String?
    /// Whether the teacher's projections are copied.
    package var copiesProjections = true
    /// The head size of time mixing, or nil to use the teacher's.
    ///
    /// If it is set, time mixing is as wide as the residual stream.
    package var headSize: Int?
    /// Sets the stages of time mixing that depend on the teacher.
    var refine: @Sendable (inout TimeMixSpec, ModelDescription) -> Void = { _, _ in }
}

/// The initial values of a new tensor.
///
/// In the formulas, n is the channel, A the number of channels, l the layer and L the number of layers.
///
/// The ramps come from RWKV-LM's trainer (RWKV-v7/train_temp/src/model.py) and from RWKVInside
/// (rwkv_inside/TimeMixer.py). In them, zz = z |z|, where z runs from -1 to 1 over each head, and lin runs from -1/2 to
/// 1/2 over all channels.
public enum Initialiser: Sendable, Hashable {
    case constant(Double)
    /// Orthonormal rows or columns, multiplied by a gain.
    ///
    /// For matrices with more rows than columns, the gain is also multiplied by sqrt(rows / columns).
    case orthogonal(gain: Double)
    /// -7 + 5 (n / (A - 1)) ^ (0.85 + sqrt(l / (L - 1))) + 0.5
    case decayRamp
    /// -6 + 6 (n / (A - 1)) ^ (1 + (l / (L - 1)) ^ 0.3) + 0.5 + 2.5 zz
    case decayRampWithHeads
    /// -0.19 + 0.3 zz + 0.4 lin
    case iclrRamp
    /// -6 + 5 (n / (A - 1)) ^ (0.7 + 1.3 l / (L - 1))
    case finchDecayRamp
    /// Uniform between -bound and bound.
    case uniform(bound: Double)
    /// Uniform between -1 / sqrt(inputs) and 1 / sqrt(inputs), as torch initialises linear layers.
    case linear
    /// 1 - (n / A) ^ (exponent (1 - l / L))
    case shiftRamp(exponent: Double)
    /// 1 - ((n / A) ^ (0.9 (1 - l / L)) + 0.4 l / (L - 1))
    case keyShiftRamp
    /// 1 - ((n / A) ^ (0.4 (1 - l / L)) + 0.6 l / (L - 1))
    case valueShiftRamp

    /// The name of the initialiser in plans.
    public var name: String {
        switch self {
        case .constant: "constant"
        case .orthogonal: "orthogonal"
        case .decayRamp: "decay_ramp"
        case .decayRampWithHeads: "decay_ramp_with_heads"
        case .iclrRamp: "iclr_ramp"
        case .finchDecayRamp: "finch_decay_ramp"
        case .uniform: "uniform"
        case .linear: "linear"
        case .shiftRamp: "shift_ramp"
        case .keyShiftRamp: "key_shift_ramp"
        case .valueShiftRamp: "value_shift_ramp"
        }
    }

    /// The value of a constant, the gain of an orthogonal initialiser, the bound of a uniform one or the exponent of a
    /// shift ramp, or nil for the other initialisers.
    public var value: Double? {
        switch self {
        case .constant(let value): value
        case .orthogonal(let gain): gain
        case .shiftRamp(let exponent): exponent
        case .uniform(let bound): bound
        case .decayRamp, .decayRampWithHeads, .iclrRamp, .finchDecayRamp, .linear, .keyShiftRamp, .valueShiftRamp: nil
        }
    }

    /// Creates an initialiser from its name and value in a plan.
    ///
    /// Returns nil if there is no initialiser with this name, or if its value is missing or not finite.
    public init?(name: String, value: Double?) {
        let all: [Initialiser?] = [
            value.map { .constant($0) }, value.map { .orthogonal(gain: $0) }, value.map { .shiftRamp(exponent: $0) },
            value.map { .uniform(bound: $0) }, .decayRamp, .decayRampWithHeads, .iclrRamp, .finchDecayRamp, .linear,
            .keyShiftRamp, .valueShiftRamp,
        ]
        guard let initialiser = all.compactMap({ $0 }).first(where: { ByteString($0.name) == ByteString(name) }),
            value?.isFinite ?? true
        else { return nil }
        self = initialiser
    }
}
