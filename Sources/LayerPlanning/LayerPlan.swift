import CheckpointFiles
public import ModelFamilies

/// A conversion before it is made: which layers stay attention and why, every choice that changes an equation, and what it costs.
///
///     let plan = try LayerPlan(of: teacher, target: .cxa079, .count(6, LayerConditions()), seed: 0)
///
/// All that a conversion needs beside the teacher.
public struct LayerPlan: Sendable, Hashable {
    /// What happens to a layer.
    public struct Layer: Sendable, Hashable {
        /// What it is afterwards.
        public let kind: LayerKind
        /// In words.
        public let reason: String
    }

    /// The model that is planned for.
    public struct Teacher: Sendable, Hashable {
        /// ``Architecture/family``.
        public let family: String
        /// ``ModelDescription/identity``.
        public let identity: String
    }

    /// Choices that change equations.
    public struct Switches: Sendable, Hashable {
        /// Whether queries and keys of layers that stay attention are turned by position.
        public var turnsAttention: Bool
        /// Whether receptance and key of time mixing are: as the target has it.
        public var turnsTimeMixing: Bool
        /// Whether they are turned with the teacher's stretched wavelengths, or with plain ones.
        public var usesTeachersScaling: Bool
        /// Where the values and keys come from that later layers mix in.
        public var firstValues: ModelDescription.FirstValues
        /// Whether heads of receptance and key are normed.
        public var normsHeads: Bool
        /// Whether the head is the embedding.
        public var tiesHead: Bool
    }

    /// What the teacher's projections are multiplied with.
    public struct ProjectionFactors: Sendable, Hashable {
        /// Queries, which become receptance.
        public var receptance = 1.0
        /// Keys.
        public var key = 1.0
        /// Values.
        public var value = 1.0
        /// The output.
        public var output = 1.0

        /// All of them one.
        public init() {}
    }

    /// What a model takes beside its weights.
    public struct Memory: Sendable, Hashable {
        /// Bytes of bf16 keys and values a token, windows left aside, which stop growing.
        public let cacheBytesPerToken: Int
        /// Bytes of bf16 keys and values a token of all layers with a window, by the number of tokens in it.
        let cacheBytesByWindow: [Int: Int]
        /// Bytes of fp32 state, whatever the context.
        public let stateBytes: Int

        /// Bytes at a context.
        public func bytes(context: Int) -> Int {
            cacheBytesByWindow.reduce(cacheBytesPerToken.multiplied(clamped: context).adding(clamped: stateBytes)) {
                $0.adding(clamped: $1.value.multiplied(clamped: min($1.key, context)))
            }
        }
    }

    /// `cxa076`, `cxa079`, or `hxa079` where layers stay attention.
    public let target: String
    /// The model that is planned for.
    public let teacher: Teacher
    /// Front to back.
    public internal(set) var layers: [Layer]
    /// Choices that change equations.
    public internal(set) var switches: Switches
    /// Of the low-rank parts.
    public let ranks: [Dimension: Int]
    /// What tensors begin with that the teacher has not.
    public internal(set) var initialisers: [TensorRole: Initialiser]
    /// Random initialisers draw from it and from the tensor's name.
    public let seed: Int
    /// What the teacher's projections are multiplied with.
    public internal(set) var projectionFactors: ProjectionFactors
    /// Parameters before.
    public let teacherParameterCount: Int
    /// Parameters after.
    public let studentParameterCount: Int
    /// Memory beside the weights before.
    public let teacherMemory: Memory
    /// Memory beside the weights after.
    public let studentMemory: Memory

    /// What layers of time mixing do not keep of their teacher's attention.
    public let dropped: [DroppedFeature]

    /// Layers that stay attention.
    public var attentionLayers: [Int] { layers.indices.filter { layers[$0].kind.hasCache } }

    /// Plans a conversion; nil where the target is none, or sizes of the teacher are not known.
    ///
    /// - Parameters:
    ///   - teacher: a model without ``ModelDescription/obstacle``.
    ///   - target: an architecture with a ``StudentRecipe``.
    ///   - selection: the layers that stay attention.
    ///   - ranks: of the low-rank parts, where they are not to be the recipe's.
    ///   - turnsAttention: whether they are run with rotation; nil: as the target's students are.
    ///   - seed: what random initialisers draw from.
    public init?(
        of teacher: ModelDescription, target: Architecture, _ selection: LayerSelection,
        ranks: [Dimension: Int] = [:], turnsAttention: Bool? = nil,
        seed: Int
    ) {
        let attention = Set(selection.layers)
        guard let recipe = target.conversion, let timeMix = target.timeMix,
            let student = teacher.student(
                target, attention: attention, ranks: ranks, turnsAttention: turnsAttention ?? recipe.turnsAttention),
            let teacherCount = teacher.parameterCount, let studentCount = student.parameterCount,
            let teacherMemory = Memory(teacher), let studentMemory = Memory(student)
        else { return nil }
        self.target = student.variant ?? ""
        self.teacher = Teacher(family: teacher.architecture.family, identity: teacher.identity)
        let first = student.layerOfFirstValues
        layers = student.kinds.enumerated().map { index, kind in
            if kind.hasCache { return Layer(kind: kind, reason: selection.reasons[index] ?? "chosen") }
            return Layer(kind: kind, reason: index == first ? "gives first values" : "not chosen")
        }
        switches = Switches(
            turnsAttention: student.turnsAttention, turnsTimeMixing: timeMix.rotary == .teacher,
            usesTeachersScaling: true,
            firstValues: .firstTimeMixing, normsHeads: student.optionalRoles.contains(.receptanceNorm),
            tiesHead: student.hasTiedHead)
        self.ranks = Dimension.ranks.reduce(into: [:]) { ranks, dimension in
            if recipe.ranks[dimension] != nil { ranks[dimension] = student.dimensions[dimension] }
        }
        let given = Set(teacher.tensors.map(\.role))
        initialisers = recipe.initialisers.filter { role, _ in
            switch role {
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
            rotates: timeMix.rotary == .teacher)
        if student.optionalRoles.contains(.receptanceNorm), !given.contains(.queryNorm) {
            // All layers have one scale.
            let factor = teacher.layers.indices.first.map { teacher.queryFactor(ofLayer: $0) } ?? 1
            if case .constant(let value)? = initialisers[.receptanceNorm] {
                initialisers[.receptanceNorm] = .constant(value * factor)
            }
        }
        self.teacherMemory = teacherMemory
        self.studentMemory = studentMemory
    }
}

extension LayerPlan {
    /// Chooses the layers that stay attention, and plans the conversion.
    ///
    /// - Parameters:
    ///   - teacher: the model that is to be converted.
    ///   - target: an architecture with a ``StudentRecipe``.
    ///   - choice: how the layers are chosen that stay attention.
    ///   - turnsAttention: whether they are run with rotation; nil: as the target's students are.
    ///   - seed: what random initialisers draw from; 0 or greater.
    /// - Throws: ``LayerPlanError`` where the teacher cannot be converted, or no choice of layers satisfies the conditions.
    public init(
        of teacher: ModelDescription, target: Architecture, _ choice: LayerChoice, turnsAttention: Bool? = nil,
        seed: Int
    ) throws(LayerPlanError) {
        if let obstacle = teacher.obstacle { throw .unfitTeacher(obstacle) }
        guard seed >= 0 else { throw .negativeSeed(seed) }
        let selection = try LayerSelection(choice, for: teacher, target: target)
        guard let plan = LayerPlan(of: teacher, target: target, selection, turnsAttention: turnsAttention, seed: seed)
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
