import CheckpointFiles
import CheckpointJSON

/// What is known of a family of models: data, and all of it in one file of Families.
public struct Architecture: Sendable {
    /// Hugging Face's model_type where one exists.
    public let family: String
    /// The name that reports and targets use where all layers are of the main kind; nil for teachers.
    public var variant: String?
    /// The name where some layers are softmax attention.
    public var hybridVariant: String?
    /// What config.json calls it: `model_type`, or `rwkv_architecture` of students.
    public let configurationNames: Set<String>
    /// All but its mixers.
    public internal(set) var body: DecoderBody
    /// Its softmax attention; nil where it has none.
    public internal(set) var attention: Attention?
    /// Its time mixing; nil where it has none.
    public internal(set) var timeMix: TimeMix7?
    /// The layouts in which it is found; the first is the one of its config.json.
    public internal(set) var layouts: [TensorLayout]
    /// Where config.json keeps sizes.
    public var dimensionKeys: [Dimension: String] = Architecture.huggingFaceKeys
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
    public internal(set) var teacherFamily: String?

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
        roles.add([.finalNormBias], body.norm == .layer ? .always : .never)
        roles.add([.embeddingNormWeight, .embeddingNormBias], body.hasEmbeddingNorm ? .always : .never)
        return roles
    }

    /// A layer of a kind that it has, as far as no configuration says more; nil for other kinds.
    func layer(_ kind: LayerKind) -> LayerSpec? {
        mixers.first { $0.kind == kind }.map {
            LayerSpec(
                mixer: $0, mixerNorms: body.mixerNorms, feedForward: body.feedForward,
                feedForwardNorms: body.feedForwardNorms)
        }
    }

    /// The roles of a layer of a kind.
    func layerRoles(_ kind: LayerKind) -> RoleSet { layer(kind)?.roles(norm: body.norm) ?? RoleSet([]) }

    /// The kinds of layers that it can have; the first is that of layers about which nothing else is known.
    var kinds: [LayerKind] { mixers.map(\.kind) }

    private var mixers: [LayerSpec.Mixer] {
        [timeMix.map { .timeMix($0) }, attention.map { .attention($0) }].compactMap { $0 }
    }

    /// Whether a layer mixes each token with the one before it: by a token shift, or in channel mixing.
    package var mixesNeighbours: Bool {
        body.feedForward == .channelMix || timeMix.map { $0.tokenShift == .lerp } == true
    }

    /// What it is called where one name is enough.
    var name: String { variant ?? family }

    /// The names that its models can have, but for transformers.
    package var variants: [String] { [variant, hybridVariant].compactMap { $0 } }

    /// The same with the choices made that a configuration makes.
    func resolved(by configuration: ModelConfiguration?) throws(CheckpointError) -> Architecture {
        var architecture = self
        architecture.body.keys.formUnion(biasKeys)
        if let attention {
            architecture.attention?.inputBias = try attention.inputBias.resolved(by: configuration)
            architecture.attention?.outputBias = try attention.outputBias.resolved(by: configuration)
        }
        if case .gated = body.feedForward, let activation = configuration?.root[body.activationKey]?.string,
            let known = FeedForwardSpec.Activation.allCases.first(where: { ByteString($0.rawValue) == activation })
        {
            architecture.body.feedForward = .gated(known)
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
        student.body = teacher.body
        student.layouts = layouts.compactMap { $0.withBody(of: teacher.layouts[0]) }
        student.teacherFamily = teacher.family
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
