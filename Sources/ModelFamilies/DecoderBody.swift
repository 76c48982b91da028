import CheckpointFiles
import CheckpointJSON

/// A decoder without its token mixers: norms, feed-forward blocks, embedding, head, and the config.json keys for them.
///
/// A student takes over its teacher's body.
public struct DecoderBody: Sendable {
    /// The kind of norm on the residual stream.
    public enum Norm: String, Sendable {
        /// x / sqrt(mean(x^2) + epsilon) * weight
        case rms = "rmsnorm"
        /// x / sqrt(mean(x^2) + epsilon) * (1 + weight), also for the norms of heads
        case rmsOfOnePlus = "rmsnorm1p"
        /// LayerNorm with a bias.
        case layer = "layernorm"
    }

    /// The kind of norm on the residual stream.
    public internal(set) var norm: Norm
    /// Whether the embedding has its own norm.
    public var hasEmbeddingNorm = false
    /// Whether embedding rows are multiplied by sqrt(C), rounded to the dtype in which the rows are stored.
    public internal(set) var scalesEmbedding = false
    /// The config.json key of the logit softcap, and the cap if the key is missing.
    var logitSoftcap: (key: String, assumed: Double?)?
    /// Where the mixer has norms.
    var mixerNorms = LayerSpec.NormPlacement.before
    /// The feed-forward block after the mixer of each layer.
    public internal(set) var feedForward: FeedForwardSpec
    /// Where the feed-forward block has norms.
    var feedForwardNorms = LayerSpec.NormPlacement.before
    /// Applies a configuration's settings for a layer, such as its window, to the layer with this index.
    var refine: @Sendable (_ layer: inout LayerSpec, _ index: Int, ModelConfiguration) throws(CheckpointError) -> Void =
        { (_, _, _) throws(CheckpointError) in }
    /// The config.json key of the norms' epsilon.
    public internal(set) var epsilonKey = "rms_norm_eps"
    /// The config.json key of the feed-forward block's activation.
    var activationKey = "hidden_act"
    /// Further config.json keys that are understood: those that `refine` reads, and some without effect.
    var keys: Set<String> = []
    /// The norms' epsilon if no configuration sets it.
    public var fixedEpsilon: Double?
    /// The epsilon that transformers assumes if config.json does not set it.
    public internal(set) var assumedEpsilon: Double?
    /// The RoPE base that transformers assumes if config.json does not set it.
    public internal(set) var assumedTheta: Double?
    /// The fraction of each head that RoPE rotates if config.json does not set it.
    var assumedPartialRotaryFactor = 1.0
    /// Whether RoPE pairs channels 2i and 2i + 1 of a head instead of i and i + R/2 of its R rotated channels.
    var isInterleaved = false
    /// Whether layers with a window have their own RoPE, so that `rope_parameters` has one object per kind of layer.
    var hasRotationsByKind = false
    /// RoPE type names that only this family's config.json uses, mapped to the types that they mean.
    var ropeTypeAliases: [ByteString: ByteString] = [:]
    /// The context length, in tokens, before RoPE scaling, if config.json does not set it.
    var assumedOriginalLength: Double?
    /// The sizes that transformers assumes if config.json does not set them.
    public internal(set) var assumedSizes: [Dimension: Int] = [:]
}
