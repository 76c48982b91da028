import CheckpointFiles
import CheckpointJSON

/// What is known of a family of models: data, and all of it in one file of Families.
public struct Architecture: Sendable {
    /// How the residual stream is normed.
    public enum Norm: String, Sendable {
        /// x / sqrt(mean(x^2) + epsilon) * weight
        case rms = "rmsnorm"
        /// x / sqrt(mean(x^2) + epsilon) * (1 + weight), of heads too
        case rmsOfOnePlus = "rmsnorm1p"
        /// LayerNorm with a bias.
        case layer = "layernorm"
    }

    /// Hugging Face's model_type where one exists.
    public let family: String
    /// The name that reports and targets use where all layers are of the main kind; nil for teachers.
    public var variant: String?
    /// The name where some layers are softmax attention.
    public var hybridVariant: String?
    /// What config.json calls it: `model_type`, or `rwkv_architecture` of students.
    public let configurationNames: Set<String>
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
    /// Its softmax attention; nil where it has none.
    public internal(set) var attention: Attention?
    /// Its time mixing; nil where it has none.
    public internal(set) var timeMix: TimeMix7?
    /// What a configuration says of one layer, by its index, beyond what all have in common.
    var refine: @Sendable (_ layer: inout LayerSpec, _ index: Int, ModelConfiguration) throws(CheckpointError) -> Void =
        { (_, _, _) throws(CheckpointError) in }
    /// The layouts in which it is found; the first is the one of its config.json.
    public internal(set) var layouts: [TensorLayout]
    /// Where config.json keeps sizes.
    public var dimensionKeys: [Dimension: String] = Architecture.huggingFaceKeys
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
    /// What transformers assumes where its config.json does not say.
    public internal(set) var assumedSizes: [Dimension: Int] = [:]
    /// What transformers assumes of `tie_word_embeddings` where its config.json does not say.
    var assumesTiedHead = false
    /// Sizes that are always the same as another.
    public var equalities: [Dimension: Dimension] = [:]
    /// Families that are not described, whose tensors would be the same.
    public var lookAlikes: [String] = []
    /// Variants that have the same tensors and other equations: it is only taken for what a configuration or the user calls so.
    public var twins: [String] = []
    /// How a teacher is turned into it; nil where it is not a target.
    public var conversion: StudentRecipe?
    /// The class that loads it in RWKVInside's Hugging Face form; nil where there is none.
    public var transformersClass: String?
    /// Whether a student of some target can be made of it.
    public var isTeacher = false
    /// The family of the teacher whose body a student has; nil for teachers, and where only the shape of Llama's is known.
    public internal(set) var body: String?

    /// The names of the keys that transformers uses for decoders.
    public static let huggingFaceKeys: [Dimension: String] = [
        .vocabulary: "vocab_size", .width: "hidden_size", .heads: "num_attention_heads",
        .keyValueHeads: "num_key_value_heads", .headSize: "head_dim", .feedForwardWidth: "intermediate_size",
        .decayRank: "lora_rank_decay", .iclrRank: "lora_rank_iclr", .valueResidualRank: "lora_rank_value_residual_mix",
        .keyResidualRank: "lora_rank_key_residual_mix", .gateRank: "lora_rank_gate",
    ]

    /// The roles that belong to the model as a whole; the head may be the embedding.
    var modelRoles: RoleSet {
        var roles = RoleSet([.embedding, .finalNormWeight])
        roles.add([.head], .sometimes)
        roles.add([.finalNormBias], norm == .layer ? .always : .never)
        roles.add([.embeddingNormWeight, .embeddingNormBias], hasEmbeddingNorm ? .always : .never)
        return roles
    }

    /// A layer of a kind that it has, as far as no configuration says more; nil for other kinds.
    func layer(_ kind: LayerKind) -> LayerSpec? {
        mixers.first { $0.kind == kind }.map {
            LayerSpec(
                mixer: $0, mixerNorms: mixerNorms, feedForward: feedForward,
                feedForwardNorms: feedForwardNorms)
        }
    }

    /// The roles of a layer of a kind.
    func layerRoles(_ kind: LayerKind) -> RoleSet { layer(kind)?.roles(norm: norm) ?? RoleSet([]) }

    /// The kinds of layers that it can have; the first is that of layers about which nothing else is known.
    var kinds: [LayerKind] { mixers.map(\.kind) }

    private var mixers: [LayerSpec.Mixer] {
        [timeMix.map { .timeMix($0) }, attention.map { .attention($0) }].compactMap { $0 }
    }

    /// Whether a layer mixes each token with the one before it: by a token shift, or in channel mixing.
    package var mixesNeighbours: Bool {
        feedForward == .channelMix || timeMix.map { $0.tokenShift == .lerp } == true
    }

    /// What it is called where one name is enough.
    var name: String { variant ?? family }

    /// The names that its models can have, but for transformers.
    package var variants: [String] { [variant, hybridVariant].compactMap { $0 } }

    /// The same with the choices made that a configuration makes.
    func resolved(by configuration: ModelConfiguration?) -> Architecture {
        var architecture = self
        architecture.keys.formUnion(biasKeys)
        architecture.attention?.inputBias = attention?.inputBias.resolved(by: configuration) ?? .never
        architecture.attention?.outputBias = attention?.outputBias.resolved(by: configuration) ?? .never
        if case .gated = feedForward, let activation = configuration?.root[activationKey]?.string,
            let known = FeedForwardSpec.Activation.allCases.first(where: { ByteString($0.rawValue) == activation })
        {
            architecture.feedForward = .gated(known)
        }
        return architecture
    }

    /// The keys of config.json that say whether attention has biases.
    var biasKeys: Set<String> {
        [attention?.inputBias, attention?.outputBias].reduce(into: []) { keys, presence in
            if case .configured(let key, _)? = presence { keys.insert(key) }
        }
    }

    /// The name of a model with layers of these kinds.
    func variant(of layers: [LayerKind]) -> String? {
        layers.contains(where: \.hasCache) ? hybridVariant ?? variant : variant
    }

    /// Whether all but its mixers is its teacher's.
    package var hasTeachersBody: Bool { timeMix != nil && layouts[0].name == TensorLayout.huggingFace.name }

    /// This student's time mixing in the body of a teacher: its norms, feed-forward blocks, ends and attention.
    func over(_ teacher: Architecture) -> Architecture {
        var student = self
        student.norm = teacher.norm
        student.scalesEmbedding = teacher.scalesEmbedding
        student.logitSoftcap = teacher.logitSoftcap
        student.mixerNorms = teacher.mixerNorms
        student.feedForward = teacher.feedForward
        student.feedForwardNorms = teacher.feedForwardNorms
        student.refine = teacher.refine
        student.epsilonKey = teacher.epsilonKey
        student.activationKey = teacher.activationKey
        student.keys.formUnion(teacher.keys)
        student.assumedRotaryPart = teacher.assumedRotaryPart
        student.assumedTheta = teacher.assumedTheta
        student.assumedEpsilon = teacher.assumedEpsilon
        student.assumedSizes = teacher.assumedSizes
        student.turnsNeighbours = teacher.turnsNeighbours
        student.layouts = layouts.compactMap { $0.withBody(of: teacher.layouts[0]) }
        student.body = teacher.family
        return student
    }
}

/// What mixes tokens in a layer.
public enum LayerKind: String, Sendable, CaseIterable {
    /// Softmax attention in which several heads of queries share one of keys and values.
    case gqa
    /// Softmax attention with keys and values for every head.
    case mha
    /// The recurrence of RWKV-7.
    case rwkv7

    /// Whether it keeps the keys and values of earlier tokens.
    public var hasCache: Bool {
        switch self {
        case .gqa, .mha: true
        case .rwkv7: false
        }
    }

    /// Whether it carries a state of fixed size from token to token.
    public var carriesState: Bool { !hasCache }

    /// The letter that a strip of layers shows for it.
    public var letter: Character {
        switch self {
        case .gqa: "G"
        case .mha: "M"
        case .rwkv7: "R"
        }
    }
}
