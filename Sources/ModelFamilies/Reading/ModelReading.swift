import Bytes
import CheckpointFiles

extension ModelDescription {
    /// Describes a model by matching an architecture against tensors, a configuration, or both.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if the configuration has invalid values, or if there are
    ///   no tensors and it does not state the number of layers.
    init(
        _ architecture: Architecture, _ index: TensorIndex?, _ layout: TensorLayout,
        _ configuration: ModelConfiguration?,
        evidence: [String], findings: [ModelFinding] = []
    ) throws(CheckpointError) {
        var reading = ModelReading(architecture, layout, configuration, findings)
        if let index { reading.find(in: index) }
        try reading.settleStages(index)
        try reading.readConfiguration(hasTensors: index != nil)
        if let index { reading.check(index) }
        self.init(reading, hasTensors: index != nil, evidence: evidence)
    }

    private init(_ reading: ModelReading, hasTensors: Bool, evidence: [String]) {
        architecture = reading.architecture
        self.evidence = evidence
        layout = hasTensors ? reading.layout : nil
        dimensions = reading.dimensions
        layers = reading.layers
        epsilon = reading.epsilon
        rotary = reading.rotary
        attentionUsesRoPE = reading.attentionUsesRoPE
        firstValues = reading.firstValues
        scalesTimeMixingRoPE = reading.scalesTimeMixingRoPE
        hasTiedHead = reading.hasTiedHead
        optionalRoles = reading.optionalRoles
        storesUnusedResiduals = reading.storesUnusedResiduals
        logitSoftcap = reading.logitSoftcap
        bindings = reading.bindings
        quantisation = reading.quantisation
        findings = reading.findings
        findingCount = reading.findingCount
        unknown = reading.unknown
    }
}

/// The properties of a model that are collected while its tensors and configuration are read.
struct ModelReading {
    typealias Place = TensorPlace

    var architecture: Architecture
    let layout: TensorLayout
    let configuration: ModelConfiguration?

    var dimensions = ModelDimensions()
    var layers: [LayerSpec] = []
    var logitSoftcap: Double?
    var epsilon: Double?
    var rotary: RotaryEmbedding?
    var attentionUsesRoPE = true
    var firstValues = ModelDescription.FirstValuesLayer.firstTimeMixing
    var scalesTimeMixingRoPE = true
    var hasTiedHead = false
    var optionalRoles: Set<TensorRole> = []
    var storesUnusedResiduals: Bool
    var quantisation: Quantisation?
    var findings: [ModelFinding]
    var findingCount: Int
    var countsByKind: [ModelFinding.Kind: Int] = [:]

    /// The checkpoint position of the tensor at each place, or nil if the weights are present only in quantised form.
    var places: [Place: Int?] = [:]
    /// The tensor, or the rows of a tensor, that contains the weights of each place.
    ///
    /// Places whose weights are present only in quantised form are omitted.
    var bindings: [TensorPlace: TensorBinding] {
        places.reduce(into: [:]) { bindings, entry in
            guard let position = entry.value else { return }
            bindings[entry.key] = TensorBinding(position: position, rows: layout.rows(of: entry.key.role, dimensions))
        }
    }
    /// The indices of layers whose tensors do not identify a kind, or identify a kind that the family does not have.
    var undecidedLayers: [Int] = []
    /// The roles outside layers.
    let modelRoles: Set<TensorRole>
    /// The roles of the layers of each kind.
    let rolesOfKind: [LayerKind: Set<TensorRole>]

    init(
        _ architecture: Architecture, _ layout: TensorLayout, _ configuration: ModelConfiguration?,
        _ findings: [ModelFinding]
    ) {
        self.findings = findings
        modelRoles = architecture.modelRoles.all
        rolesOfKind = architecture.kinds.reduce(into: [:]) { $0[$1] = architecture.layerRoles($1).all }
        findingCount = findings.count
        self.architecture = architecture
        self.layout = layout
        self.configuration = configuration
        storesUnusedResiduals = architecture.timeMix?.storesUnusedResiduals ?? false
    }

    mutating func add(_ kind: ModelFinding.Kind, _ tensor: String?, _ message: String) {
        findingCount += 1
        // The limit is per kind, so that harmless findings cannot crowd out the others.
        countsByKind[kind, default: 0] += 1
        guard countsByKind[kind, default: 0] <= ModelFinding.limit else { return }
        findings.append(ModelFinding(kind: kind, tensor: tensor, message: message))
    }
}
