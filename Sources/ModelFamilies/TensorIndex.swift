import CheckpointFiles

/// The tensors of a checkpoint, indexed by name pattern.
struct TensorIndex {
    struct Occurrence {
        /// The number that `#` replaces in the pattern, or nil if the name contains no number.
        var number: Int?
        var position: Int
    }

    let checkpoint: Checkpoint
    /// The prefixes that are stripped from tensor names before patterns are derived from them.
    let prefixes: NamePrefixes
    let occurrences: [NamePattern: [Occurrence]]
    /// The patterns of tensors that replace or accompany a quantised weight, with the pattern of the weight.
    let quantisedWeights: [NamePattern: NamePattern]
    /// The positions of tensors that do not belong to the text model of a multimodal checkpoint.
    let others: [Int]

    /// The maximum number of name patterns.
    ///
    /// A checkpoint with more patterns does not follow any layout.
    private static let patternLimit = 20_000
    /// Returns the name patterns of a sample of a checkpoint's tensors.
    ///
    /// The sample consists of the first 128 tensors and of at least 128 tensors that are spread evenly over the
    /// checkpoint. It contains all tensors if there are fewer than 256.
    static func sample(_ checkpoint: Checkpoint) -> Set<NamePattern> {
        Set(samplePositions(checkpoint).map { NamePattern(checkpoint.tensors[$0].name) })
    }

    private static func samplePositions(_ checkpoint: Checkpoint) -> Set<Int> {
        let (tensors, count) = (checkpoint.tensors, 128)
        let step = max(1, tensors.count / count)
        return Set(0..<min(count, tensors.count)).union(stride(from: 0, to: tensors.count, by: step))
    }

    /// Indexes the tensors of a checkpoint.
    ///
    /// Returns nil if no layout contains any of the sampled names, or if there are too many name patterns.
    init?(_ checkpoint: Checkpoint, layouts: [TensorLayout]) {
        self.checkpoint = checkpoint
        let tensors = checkpoint.tensors
        func isKnown(_ pattern: NamePattern) -> Bool { layouts.contains { !$0.roles(of: pattern).isEmpty } }
        let sample = Self.samplePositions(checkpoint)
        let prefixes = NamePrefixes(checkpoint, sample: sample, isKnown: isKnown)
        self.prefixes = prefixes
        guard
            sample.contains(where: { position in
                prefixes.strip(tensors[position].name).map { isKnown(NamePattern($0)) } == true
            })
        else { return nil }
        var occurrences: [NamePattern: [Occurrence]] = [:]
        var others: [Int] = []
        for position in tensors.indices {
            guard let name = prefixes.strip(tensors[position].name) else {
                others.append(position)
                continue
            }
            let (pattern, number) = NamePattern.split(name)
            occurrences[pattern, default: []].append(Occurrence(number: number, position: position))
            guard occurrences.count <= Self.patternLimit else { return nil }
        }
        self.occurrences = occurrences
        quantisedWeights = occurrences.keys.reduce(into: [:]) { $0[$1] = Quantisation.weight(of: $1) }
        self.others = others
    }

    /// The maximum number of layers in a model.
    static let layerLimit = 1024

    /// Returns the kind of each layer, determined from a layout's tensor names.
    ///
    /// If a name identifies several kinds, the layer has the one in `kinds`, the kinds of the architecture's layers.
    ///
    /// The kind is nil if a layer has no tensor that identifies one.
    func layerKinds(in layout: TensorLayout, of kinds: [LayerKind]) -> [LayerKind?] {
        let signatures = (kinds + LayerKind.allCases).map { (kind: $0, role: layout.signature(of: $0)) }
        var found: [LayerKind?] = []
        for (pattern, occurrences) in occurrences {
            let roles = layout.roles(of: quantisedWeights[pattern] ?? pattern).filter(\.isPerLayer)
            guard !roles.isEmpty else { continue }
            let kind = signatures.first { roles.contains($0.role) }?.kind
            for case let number? in occurrences.lazy.map(\.number) where number < Self.layerLimit {
                while found.count <= number { found.append(nil) }
                guard let kind else { continue }
                // A student's checkpoint can still contain the teacher's query weights next to the receptance weights.
                if found[number] == nil || kind.carriesState { found[number] = kind }
            }
        }
        return found
    }

    func tensor(_ occurrence: Occurrence) -> TensorInfo { checkpoint.tensors[occurrence.position] }

    /// Returns the number of tensors whose names are part of a layout.
    func count(in layout: TensorLayout) -> Int {
        occurrences.reduce(0) { layout.roles(of: $1.key).isEmpty ? $0 : $0 + $1.value.count }
    }
}
