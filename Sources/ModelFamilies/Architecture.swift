import CheckpointFiles
import CheckpointJSON

/// A family of models, described as data in one file in Families.
public struct Architecture: Sendable {
    /// The family's name: Hugging Face's `model_type` if one exists.
    public let family: String
    /// The name, in reports and plans, of models without softmax attention; nil for teachers.
    public var variant: String?
    /// The name of models in which some layers are softmax attention; nil if it is the same.
    public var hybridVariant: String?
    /// The family's names in config.json: values of `model_type`, or of a student's `rwkv_architecture`.
    public let configurationNames: Set<String>
    /// Everything except the token mixers.
    public internal(set) var body: DecoderBody
    /// The family's softmax attention; nil if it has none.
    public internal(set) var attention: Attention?
    /// The family's time mixing; nil if it has none.
    public internal(set) var timeMix: TimeMix7?
    /// The layouts of the family's checkpoints; the first is the one that comes with a config.json.
    public internal(set) var layouts: [TensorLayout]
    /// The config.json key of each size.
    public var dimensionKeys: [Dimension: String] = Architecture.huggingFaceKeys
    /// Whether transformers assumes tied embeddings if config.json does not set `tie_word_embeddings`.
    var assumesTiedHead = false
    /// Sizes that always equal another size: each key equals its value.
    public var impliedSizes: [Dimension: Dimension] = [:]
    /// Other families whose tensors have the same names; reports mention them.
    public var familiesWithSameTensors: [String] = []
    /// Architectures with the same tensors but other equations; if there are any, only the name identifies this one.
    public var indistinguishableVariants: [String] = []
    /// How a teacher is converted to this architecture; nil if it is not a target.
    public var conversion: StudentRecipe?
    /// The transformers class that loads such models in RWKVInside's Hugging Face form; nil if there is none.
    public var transformersClass: String?
    /// Whether models of this family can be teachers.
    public var isTeacher = false
    /// The family of the teacher that a student's body comes from; nil for teachers, and for bodies assumed to be
    /// Llama's.
    public internal(set) var teacherFamily: String?

    /// The config.json keys of sizes: transformers' keys for decoders, and RWKVInside's keys for ranks.
    public static let huggingFaceKeys: [Dimension: String] = [
        .vocabulary: "vocab_size", .width: "hidden_size", .heads: "num_attention_heads",
        .keyValueHeads: "num_key_value_heads", .headSize: "head_dim", .feedForwardWidth: "intermediate_size",
        .decayRank: "lora_rank_decay", .iclrRank: "lora_rank_iclr", .valueResidualRank: "lora_rank_value_residual_mix",
        .keyResidualRank: "lora_rank_key_residual_mix", .gateRank: "lora_rank_gate",
    ]

    /// The roles outside layers; the head is optional, because it may be tied to the embedding.
    var modelRoles: RoleSet {
        var roles = RoleSet([.embedding, .finalNormWeight])
        roles.add([.head], .sometimes)
        roles.add([.finalNormBias], body.norm == .layer ? .always : .never)
        roles.add([.embeddingNormWeight, .embeddingNormBias], body.hasEmbeddingNorm ? .always : .never)
        return roles
    }

    /// Returns a layer of this kind before a configuration's settings; nil if the architecture has no such layers.
    func layer(_ kind: LayerKind) -> LayerSpec? {
        mixers.first { $0.kind == kind }.map {
            LayerSpec(
                mixer: $0, mixerNorms: body.mixerNorms, feedForward: body.feedForward,
                feedForwardNorms: body.feedForwardNorms)
        }
    }

    /// Returns the roles of a layer of this kind; none if the architecture has no such layers.
    func layerRoles(_ kind: LayerKind) -> RoleSet { layer(kind)?.roles(norm: body.norm) ?? RoleSet([]) }

    /// The kinds of layers that the architecture has; the first is assumed for layers about which nothing is known.
    var kinds: [LayerKind] { mixers.map(\.kind) }

    private var mixers: [LayerSpec.Mixer] {
        [timeMix.map { .timeMix($0) }, attention.map { .attention($0) }].compactMap { $0 }
    }

    /// Whether a layer mixes each token with the previous one, in a token shift or in channel mixing.
    package var mixesPreviousToken: Bool {
        body.feedForward == .channelMix || timeMix.map { $0.tokenShift == .lerp } == true
    }

    /// The variant's name, or the family's if there are no variants.
    var name: String { variant ?? family }

    /// The names of the family's variants; empty for transformers.
    package var variants: [String] { [variant, hybridVariant].compactMap { $0 } }

    /// Returns this architecture with the biases and the activation that a configuration specifies.
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

    /// The config.json keys that state whether attention has biases.
    var biasKeys: Set<String> {
        [attention?.inputBias, attention?.outputBias].reduce(into: []) { keys, presence in
            if case .configured(let key, _)? = presence { keys.insert(key) }
        }
    }

    /// Returns the variant's name for a model with layers of these kinds; nil for transformers.
    func variant(of layers: [LayerKind]) -> String? {
        layers.contains(where: \.hasCache) ? hybridVariant ?? variant : variant
    }

    /// Whether everything except the token mixers comes from a teacher.
    package var hasTeachersBody: Bool { timeMix != nil && layouts[0].name == TensorLayout.huggingFace.name }

    /// Returns this student with a teacher's body: norms, feed-forward blocks, embedding, head, and tensor names.
    func over(_ teacher: Architecture) -> Architecture {
        var student = self
        student.body = teacher.body
        // The student's config.json keeps the teacher's keys.
        student.body.keys.formUnion(teacher.biasKeys)
        student.layouts = layouts.compactMap { $0.withBody(of: teacher.layouts[0]) }
        student.teacherFamily = teacher.family
        return student
    }
}

/// The kind of a layer's token mixer.
public enum LayerKind: String, Sendable, CaseIterable {
    /// Grouped-query attention: several query heads share one head of keys and values.
    case gqa
    /// Multi-head attention: every query head has its own keys and values.
    case mha
    /// Time mixing with the recurrence of RWKV-7.
    case rwkv7

    /// Whether layers of this kind cache the keys and values of earlier tokens.
    public var hasCache: Bool {
        switch self {
        case .gqa, .mha: true
        case .rwkv7: false
        }
    }

    /// Whether layers of this kind carry a state of fixed size from token to token.
    public var carriesState: Bool { !hasCache }

    /// The role whose tensor shows that a layer is of this kind; both kinds of attention share it.
    var signature: TensorRole {
        switch self {
        case .gqa, .mha: .queryWeight
        case .rwkv7: .receptanceWeight
        }
    }

    /// The kind's letter in reports, which show layers as a row of letters.
    public var letter: Character {
        switch self {
        case .gqa: "G"
        case .mha: "M"
        case .rwkv7: "R"
        }
    }
}
