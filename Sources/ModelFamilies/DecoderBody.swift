import CheckpointFiles
import CheckpointJSON

/// All of a decoder except its mixers: norms, feed-forward blocks, both ends, and how its config.json states them.
///
/// A student has its teacher's.
public struct DecoderBody: Sendable {
    /// How the residual stream is normed.
    public enum Norm: String, Sendable {
        /// x / sqrt(mean(x^2) + epsilon) * weight
        case rms = "rmsnorm"
        /// x / sqrt(mean(x^2) + epsilon) * (1 + weight), of heads too
        case rmsOfOnePlus = "rmsnorm1p"
        /// LayerNorm with a bias.
        case layer = "layernorm"
    }

    /// How the residual stream is normed.
    public internal(set) var norm: Norm
    /// Whether the embedding has a norm of its own.
    public var hasEmbeddingNorm = false
    /// Whether embedding rows are multiplied by sqrt(C), rounded to the type that they are stored in.
    public internal(set) var scalesEmbedding = false
    /// The key of the cap on logits, which become cap tanh(logit / cap), and the cap where the key is missing.
    var logitSoftcap: (key: String, assumed: Double?)?
    /// The norms of the mixer.
    var mixerNorms = LayerSpec.NormPlacement.before
    /// What follows the mixer in each layer.
    public internal(set) var feedForward: FeedForwardSpec
    /// The norms of what follows.
    var feedForwardNorms = LayerSpec.NormPlacement.before
    /// What a configuration says of one layer, by its index, beyond what all have in common.
    var refine: @Sendable (_ layer: inout LayerSpec, _ index: Int, ModelConfiguration) throws(CheckpointError) -> Void =
        { (_, _, _) throws(CheckpointError) in }
    /// Where config.json keeps the epsilon of the norms.
    public internal(set) var epsilonKey = "rms_norm_eps"
    /// Where config.json keeps the activation of the feed-forward block.
    var activationKey = "hidden_act"
    /// The keys of config.json, beside those above, that it reads.
    var keys: Set<String> = []
    /// That epsilon where it is always the same.
    public var fixedEpsilon: Double?
    /// What transformers assumes where its config.json does not say.
    public internal(set) var assumedEpsilon: Double?
    /// What transformers assumes where its config.json does not say.
    public internal(set) var assumedTheta: Double?
    /// The part of each head that is turned, where its config.json does not say.
    var assumedRotaryPart = 1.0
    /// Whether channels 2i and 2i + 1 of a head are turned together, not i and i + R/2.
    var turnsNeighbours = false
    /// Whether layers with a window have a rotation of their own, so that `rope_parameters` has one for each kind of layer.
    var hasRotationsByKind = false
    /// Other names of rotation types in its config.json, and what they mean there.
    var rotaryTypeAliases: [ByteString: ByteString] = [:]
    /// The length that rotations are stretched from, where its config.json does not say.
    var assumedOriginalLength: Double?
    /// What transformers assumes where its config.json does not say.
    public internal(set) var assumedSizes: [Dimension: Int] = [:]
}
