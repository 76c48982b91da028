import Bytes
import CheckpointJSON
import CheckpointFiles

/// A family of models.
///
/// The families are defined in the files in Families.
public struct Architecture: Sendable {
    /// The name of the family, which is Hugging Face's `model_type` if there is one.
    public let family: String
    /// The name that reports and plans use for models without softmax attention, or nil for teachers.
    public var variant: String?
    /// The name of models in which some layers are softmax attention, or nil if it is the same as `variant`.
    public var hybridVariant: String?
    /// The names of the family in config.json, as values of `model_type` or of a student's `rwkv_architecture`.
    public let configurationNames: Set<String>
    /// The body, which consists of everything except the token mixers.
    public internal(set) var body: DecoderBody
    /// The family's softmax attention, or nil if it has no attention layers.
    public internal(set) var attention: Attention?
    /// The family's time mixing, or nil if it has no time-mixing layers.
    public internal(set) var timeMix: TimeMixSpec?
    /// The stages of time mixing that vary between models of the family, or nil if there are none.
    ///
    /// Until a model is read, `timeMix` has the stages of the models that conversions make.
    var variableStages: VariableStages?
    /// Whether the family's models are students, whose body comes from a teacher.
    package internal(set) var hasTeachersBody = false
    /// The layouts of the family's checkpoints.
    ///
    /// The first layout is used for models that have a config.json but no weights.
    public internal(set) var layouts: [TensorLayout]
    /// The config.json of the family's models in each layout, by the layout's name.
    ///
    /// A student's config.json is made from its teacher's instead.
    package internal(set) var configurations: [String: ConfigurationTemplate] = [:]
    /// The config.json key of each size.
    public var dimensionKeys: [ModelDimension: String] = Architecture.huggingFaceKeys
    /// Whether transformers assumes tied embeddings if config.json does not set `tie_word_embeddings`.
    var assumesTiedHead = false
    /// Sizes that always equal another size, mapped to that other size.
    public var impliedSizes: [ModelDimension: ModelDimension] = [:]
    /// Other families with the same tensor names, which reports mention.
    public var familiesWithSameTensors: [String] = []
    /// The names of architectures with the same tensors, to which tensors are attributed if nothing names this
    /// architecture.
    ///
    /// If there are any, only the architecture's name can identify it.
    public var indistinguishableVariants: [String] = []
    /// The recipe for converting a teacher to this architecture, or nil if this architecture is not a conversion
    /// target.
    public var conversion: StudentRecipe?
    /// The transformers class that loads these models in RWKVInside's Hugging Face form, or nil if there is none.
    public var transformersClass: String?
    /// Whether models of this family can be teachers.
    public var isTeacher = false
    /// The family of the teacher that a student's body comes from.
    ///
    /// This property is nil for teachers, and for students whose body is assumed to be Llama's.
    public internal(set) var teacherFamily: String?

    /// The config.json keys of sizes: transformers' keys for decoders, and RWKVInside's keys for ranks.
    public static let huggingFaceKeys: [ModelDimension: String] = [
        .vocabulary: "vocab_size", .width: "hidden_size", .heads: "num_attention_heads",
        .keyValueHeads: "num_key_value_heads", .headSize: "head_dim", .feedForwardWidth: "intermediate_size",
        .decayRank: "lora_rank_decay", .iclrRank: "lora_rank_iclr", .valueResidualRank: "lora_rank_value_residual_mix",
        .keyResidualRank: "lora_rank_key_residual_mix", .gateRank: "lora_rank_gate",
    ]

    /// The roles outside layers.
    ///
    /// The head is optional because it can be tied to the embedding.
    var modelRoles: RoleSet {
        var roles = RoleSet([.embedding, .finalNormWeight])
        roles.add([.head], .sometimes)
        roles.add([.finalNormBias], body.norm == .layer ? .always : .never)
        roles.add([.embeddingNormWeight, .embeddingNormBias], body.hasEmbeddingNorm ? .always : .never)
        return roles
    }

    /// Returns a layer of the given kind, without any settings from a configuration.
    ///
    /// Returns nil if the architecture has no such layers.
    func layer(_ kind: LayerKind) -> LayerSpec? {
        mixers.first { $0.kind == kind }.map {
            LayerSpec(
                mixer: $0, mixerNorms: body.mixerNorms, feedForward: body.feedForward,
                feedForwardNorms: body.feedForwardNorms)
        }
    }

    /// Returns the roles of a layer of the given kind, or no roles if the architecture has no such layers.
    func layerRoles(_ kind: LayerKind) -> RoleSet {
        var roles = layer(kind)?.roles(norm: body.norm) ?? RoleSet([])
        if kind.carriesState, let variable = variableStages?.roles {
            roles.makeOptional(variable)
            for role in variable { roles.add([role], .sometimes) }
        }
        return roles
    }

    /// The kinds of layers that the architecture can have.
    ///
    /// The first kind is assumed for layers whose kind is not known.
    var kinds: [LayerKind] { mixers.map(\.kind) }

    private var mixers: [LayerSpec.Mixer] {
        [timeMix.map { .timeMix($0) }, attention.map { .attention($0) }].compactMap { $0 }
    }

    /// The name of the variant, or of the family if it has no variants.
    var name: String { variant ?? family }

    /// The names of the family's variants, or an empty array if it has none.
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

    /// The config.json keys that determine whether attention has biases.
    var biasKeys: Set<String> {
        [attention?.inputBias, attention?.outputBias].reduce(into: []) { keys, presence in
            if case .configured(let key, _)? = presence { keys.insert(key) }
        }
    }

    /// Returns the name of the variant for a model with layers of the given kinds, or nil if the family has no
    /// variants.
    func variant(of layers: [LayerKind]) -> String? {
        layers.contains(where: \.hasCache) ? hybridVariant ?? variant : variant
    }

    /// Returns this student with a teacher's body: norms, feed-forward blocks, embedding, head, and tensor names.
    func over(_ teacher: Architecture) -> Architecture {
        var student = self
        student.body = teacher.body
        // The student's config.json keeps the keys of the teacher's config.json.
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
    /// Time mixing with the recurrence of RWKV-6 and a decay that depends on the token.
    case rwkv6
    /// Time mixing with the recurrence of RWKV-6 and a fixed decay.
    case rwkv5

    /// Whether layers of this kind cache the keys and values of earlier tokens.
    public var hasCache: Bool {
        switch self {
        case .gqa, .mha: true
        case .rwkv7, .rwkv6, .rwkv5: false
        }
    }

    /// Whether layers of this kind carry a state of fixed size from token to token.
    public var carriesState: Bool { !hasCache }

    /// The number of floating-point operations per token and per element of the state.
    package var recurrenceOperations: Double {
        switch self {
        case .gqa, .mha: 0
        case .rwkv7: 9
        case .rwkv6, .rwkv5: 5
        }
    }

    /// The letter for this kind in reports, which show a model's layers as a row of letters.
    public var letter: Character {
        switch self {
        case .gqa: "G"
        case .mha: "M"
        case .rwkv7, .rwkv6, .rwkv5: "R"
        }
    }
}
