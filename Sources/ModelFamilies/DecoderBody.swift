import Bytes
import CheckpointFiles
import CheckpointJSON

/// The parts of a decoder other than its token mixers: the norms, feed-forward blocks, embedding and head.
///
/// The body also describes the config.json keys of these parts, and their default values. A student keeps its teacher's
/// body.
public struct DecoderBody: Sendable {
    /// The kind of norm that is applied to the residual stream.
    public enum Norm: String, Sendable {
        /// x / sqrt(mean(x^2) + epsilon) * weight
        case rms = "rmsnorm"
        /// x / sqrt(mean(x^2) + epsilon) * (1 + weight); the norms on query and key heads use the same formula.
        case rmsOfOnePlus = "rmsnorm1p"
        /// LayerNorm with a bias.
        case layer = "layernorm"
    }

    /// The kind of norm that is applied to the residual stream.
    public internal(set) var norm: Norm
    /// Whether the output of the embedding is normalised before the first layer.
    public var hasEmbeddingNorm = false
    /// Whether embeddings are multiplied by sqrt(C), after sqrt(C) is rounded to the stored dtype of the embedding
    /// matrix.
    public internal(set) var scalesEmbedding = false
    /// The config.json key of the logit softcap and its default value, or nil if the family has no logit softcap.
    var logitSoftcap: (key: String, assumed: Double?)?
    /// The placement of the mixer's norms.
    var mixerNorms = LayerSpec.NormPlacement.before
    /// The feed-forward block, which follows the mixer in each layer.
    public internal(set) var feedForward: FeedForwardSpec
    /// The placement of the feed-forward block's norms.
    var feedForwardNorms = LayerSpec.NormPlacement.before
    /// Applies a configuration's settings for one layer, such as its sliding window.
    var refine: @Sendable (_ layer: inout LayerSpec, _ index: Int, ModelConfiguration) throws(CheckpointError) -> Void =
        { (_, _, _) throws(CheckpointError) in }
    /// The config.json key for the epsilon of the norms.
    public internal(set) var epsilonKey = "rms_norm_eps"
    /// The config.json key for the activation of the feed-forward block.
    var activationKey = "hidden_act"
    /// Other config.json keys that the family understands, including keys that have no effect.
    var keys: Set<String> = []
    /// The values of keys for which only some values are implemented.
    var implementedValues: [String: JSONValue] = [:]
    /// The epsilon of the norms if there is no config.json or if it does not set one.
    public var fixedEpsilon: Double?
    /// The epsilon that transformers uses if config.json does not set one.
    public internal(set) var assumedEpsilon: Double?
    /// The RoPE base that transformers uses if config.json does not set one.
    public internal(set) var assumedTheta: Double?
    /// The fraction of each head's channels that RoPE rotates if config.json does not set it.
    var assumedPartialRotaryFactor = 1.0
    /// Whether RoPE rotates channels 2i and 2i + 1 of a head as a pair.
    ///
    /// Otherwise it pairs channels i and i + R/2, where R is the number of rotated channels.
    var isInterleaved = false
    /// Whether layers with a sliding window have their own RoPE parameters.
    ///
    /// If they do, `rope_parameters` contains one object for each layer type.
    var hasRotationsByKind = false
    /// Names that this family's config.json uses for RoPE scaling types, mapped to the standard names.
    var ropeTypeAliases: [ByteString: ByteString] = [:]
    /// The context length before RoPE scaling, in tokens, if the top level of config.json does not set it.
    var assumedOriginalLength: Double?
    /// The sizes that transformers uses if config.json does not set them.
    public internal(set) var assumedSizes: [ModelDimension: Int] = [:]
}
