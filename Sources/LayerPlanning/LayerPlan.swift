import Bytes
import CheckpointFiles
public import ModelFamilies

/// A plan for a conversion: which layers keep attention and why, the choices that change the model's equations, and the
/// costs in parameters and memory.
///
///     let plan = try LayerPlan(of: teacher, target: .cxa079, .count(6, LayerConditions()), seed: 0)
///
/// A conversion needs only the plan and the teacher.
public struct LayerPlan: Sendable, Hashable {
    /// The kind of a layer in the student, and the reason for it.
    public struct Layer: Sendable, Hashable {
        /// The kind of the layer in the student.
        public let kind: LayerKind
        /// The reason for the kind, as a short text.
        public internal(set) var reason: String
    }

    /// The model to convert.
    public struct Teacher: Sendable, Hashable {
        /// The teacher's `Architecture.family`.
        public internal(set) var family: String
        /// The teacher's `ModelDescription.identity`.
        public internal(set) var identity: String
    }

    /// The choices that change the model's equations.
    public struct Switches: Sendable, Hashable {
        /// Whether attention layers use RoPE.
        public var attentionUsesRoPE = false
        /// Whether time mixing applies RoPE to receptance and key; the target architecture decides this.
        public var timeMixingUsesRoPE = false
        /// Whether RoPE in time mixing uses the teacher's RoPE scaling; otherwise it is unscaled.
        public var usesTeachersScaling = true
        /// The choice of the layer that provides the values and keys that later layers mix in.
        public var firstValues = ModelDescription.FirstValuesLayer.firstTimeMixing
        /// Whether receptance and key are normalised in each head.
        public var normalisesHeads = false
        /// Whether the head is tied to the embedding.
        public var tiesHead = false
    }

    /// The factors that the teacher's projections are multiplied by.
    public struct ProjectionFactors: Sendable, Hashable {
        /// The factor for the query projection, which becomes receptance.
        public var receptance = 1.0
        /// The factor for the key projection.
        public var key = 1.0
        /// The factor for the value projection.
        public var value = 1.0
        /// The factor for the output projection.
        public var output = 1.0

        /// Creates factors that are all 1.
        public init() {}
    }

    /// The memory that a model uses in addition to its weights.
    public struct Memory: Sendable, Hashable {
        /// The size in bytes of the bf16 KV cache per token, in layers without a sliding window.
        public let cacheBytesPerToken: Int
        /// The size in bytes of the bf16 KV cache per token, in all layers with a sliding window, keyed by the window
        /// size in tokens.
        let cacheBytesByWindow: [Int: Int]
        /// The size in bytes of the fp32 state, which does not depend on the context.
        public let stateBytes: Int

        /// Returns the total size in bytes of the KV cache and the state at a context of the given number of tokens.
        public func bytes(context: Int) -> Int {
            cacheBytesByWindow.reduce(cacheBytesPerToken.multiplied(clamped: context).adding(clamped: stateBytes)) {
                $0.adding(clamped: $1.value.multiplied(clamped: min($1.key, context)))
            }
        }
    }

    /// The kind of student: `cxa076`, `cxa079`, or `hxa079` if some layers keep attention.
    public let target: String
    /// The model to convert.
    public let teacher: Teacher
    /// The layers, from first to last.
    public internal(set) var layers: [Layer]
    /// The choices that change the model's equations.
    public internal(set) var switches: Switches
    /// The ranks of the low-rank matrices.
    public let ranks: [ModelDimension: Int]
    /// The initialisers of the tensors that the teacher does not have.
    public internal(set) var initialisers: [TensorRole: Initialiser]
    /// The seed of random initialisers, which also depend on the tensor's name.
    public let seed: Int
    /// The factors that the teacher's projections are multiplied by.
    public internal(set) var projectionFactors: ProjectionFactors
    /// The number of parameters of the teacher.
    public let teacherParameterCount: Int
    /// The number of parameters of the student.
    public let studentParameterCount: Int
    /// The memory that the teacher uses in addition to its weights.
    public let teacherMemory: Memory
    /// The memory that the student uses in addition to its weights.
    public let studentMemory: Memory

    /// The features of the teacher's attention that time-mixing layers drop or express differently.
    public let dropped: [DroppedFeature]

    /// The layers that keep attention, in ascending order.
    public var attentionLayers: [Int] { layers.indices.filter { layers[$0].kind.hasCache } }

    /// Creates a plan for a conversion.
    ///
    /// Returns nil if the target has no recipe or if the teacher's sizes are not known.
    ///
    /// - Parameters:
    ///   - teacher: a model whose `ModelDescription.conversionBlocker` is nil.
    ///   - target: an architecture with a `StudentRecipe`.
    ///   - selection: the layers that keep attention.
    ///   - ranks: the ranks of low-rank matrices, which override the recipe's ranks.
    ///   - attentionUsesRoPE: whether attention layers use RoPE; nil to use the recipe's choice.
    ///   - seed: the seed of random initialisers.
    public init?(
        of teacher: ModelDescription, target: Architecture, _ selection: LayerSelection,
        ranks: [ModelDimension: Int] = [:], attentionUsesRoPE: Bool? = nil,
        seed: Int
    ) {
        let attention = Set(selection.layers)
        guard let recipe = target.conversion,
            let student = teacher.student(
                target, attention: attention, ranks: ranks,
                attentionUsesRoPE: attentionUsesRoPE ?? recipe.attentionUsesRoPE),
            let timeMix = student.architecture.timeMix,
            let teacherCount = teacher.parameterCount, let studentCount = student.parameterCount,
            let teacherMemory = Memory(teacher), let studentMemory = Memory(student)
        else { return nil }
        self.target = student.variant ?? ""
        self.teacher = Teacher(family: teacher.architecture.family, identity: teacher.identity)
        let first = student.layerOfFirstValues
        layers = student.kinds.enumerated().map { index, kind in
            if kind.hasCache { return Layer(kind: kind, reason: selection.reasons[index] ?? "chosen") }
            let reason = index == first ? "gives first values" : "not chosen"
            return Layer(kind: kind, reason: recipe.copiesProjections ? reason : reason + "; copies no projections")
        }
        switches = Switches(
            attentionUsesRoPE: student.attentionUsesRoPE, timeMixingUsesRoPE: timeMix.usesRoPE,
            usesTeachersScaling: timeMix.allowsScaledRoPE,
            firstValues: .firstTimeMixing, normalisesHeads: student.optionalRoles.contains(.receptanceNorm),
            tiesHead: student.hasTiedHead)
        self.ranks = ModelDimension.ranks.reduce(into: [:]) { ranks, dimension in
            if recipe.ranks[dimension] != nil { ranks[dimension] = student.dimensions[dimension] }
        }
        let given = Set(teacher.tensors.map(\.role))
        initialisers = recipe.initialisers.filter { role, _ in
            guard timeMix.roles.all.contains(role) else { return false }
            return switch role {
            case .receptanceNorm: !given.contains(.queryNorm)
            case .timeMixKeyNorm: !given.contains(.keyNorm)
            default: true
            }
        }
        self.seed = seed
        projectionFactors = ProjectionFactors()
        teacherParameterCount = teacherCount
        studentParameterCount = studentCount
        dropped = DroppedFeature.all(
            of: teacher, in: student.layers.indices.filter { student.layers[$0].kind.carriesState },
            rotates: timeMix.usesRoPE)
        if student.optionalRoles.contains(.receptanceNorm), !given.contains(.queryNorm) {
            // All layers have the same query scale.
            let factor = teacher.layers.indices.first.map { teacher.receptanceFactor(ofLayer: $0) } ?? 1
            if case .constant(let value)? = initialisers[.receptanceNorm] {
                initialisers[.receptanceNorm] = .constant(value * factor)
            }
        }
        self.teacherMemory = teacherMemory
        self.studentMemory = studentMemory
    }
}

extension LayerPlan {
    /// Creates a plan for a conversion by choosing the layers that keep attention.
    ///
    /// - Parameters:
    ///   - teacher: the model to convert.
    ///   - target: an architecture with a `StudentRecipe`.
    ///   - choice: how to choose the layers that keep attention.
    ///   - attentionUsesRoPE: whether attention layers use RoPE; nil to use the recipe's choice.
    ///   - seed: the seed of random initialisers, which must be 0 or greater.
    /// - Throws: ``LayerPlanError`` if the teacher cannot be converted, the seed is negative, or the choice is impossible.
    public init(
        of teacher: ModelDescription, target: Architecture, _ choice: LayerChoice, attentionUsesRoPE: Bool? = nil,
        seed: Int
    ) throws(LayerPlanError) {
        if let conversionBlocker = teacher.conversionBlocker { throw .unfitTeacher(conversionBlocker) }
        guard seed >= 0 else { throw .negativeSeed(seed) }
        if let size = target.conversion?.headSize, let width = teacher.dimensions[.width], width % size != 0 {
            throw .unfitTeacher("its width of \(width) is not a multiple of the target's head size of \(size)")
        }
        let selection = try LayerSelection(choice, for: teacher, target: target)
        guard target.attention != nil || selection.layers.isEmpty else {
            throw .noAttention(target: target.variants.first ?? target.family)
        }
        guard
            let plan = LayerPlan(
                of: teacher, target: target, selection, attentionUsesRoPE: attentionUsesRoPE, seed: seed)
        else { throw .unknownSizes }
        self = plan
    }
}

extension LayerPlan.Memory {
    init?(_ model: ModelDescription) {
        guard let cache = model.cacheBytesPerToken, let state = model.stateBytes else { return nil }
        self.init(cacheBytesPerToken: cache, cacheBytesByWindow: model.cacheBytesByWindow, stateBytes: state)
    }
}
