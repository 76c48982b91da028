import CheckpointFiles

/// A checkpoint's tensors by pattern of name.
struct TensorIndex {
    struct Occurrence {
        /// The number that stood in the name.
        var number: Int?
        var position: Int
    }

    let checkpoint: Checkpoint
    /// What names begin with that has nothing to do with the model.
    let prefixes: NamePrefixes
    let occurrences: [NamePattern: [Occurrence]]
    /// Positions of tensors of another model, beside the text model.
    let others: [Int]

    /// More patterns than any model has layers of different kinds; beyond, names have no order that could be found.
    private static let patternLimit = 20_000
    /// The patterns of some names: the first ones, and as many from all over.
    static func sample(_ checkpoint: Checkpoint) -> Set<NamePattern> {
        Set(samplePositions(checkpoint).map { NamePattern(checkpoint.tensors[$0].name) })
    }

    private static func samplePositions(_ checkpoint: Checkpoint) -> Set<Int> {
        let (tensors, count) = (checkpoint.tensors, 128)
        let step = max(1, tensors.count / count)
        return Set(0..<min(count, tensors.count)).union(stride(from: 0, to: tensors.count, by: step))
    }

    /// Puts the tensors in order; nil where no layout knows any of a sample.
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
        self.others = others
    }

    /// More layers than any model has.
    static let layerLimit = 1024

    /// The kind of each layer that a layout's names speak of; nil where neither receptance nor queries are there.
    func layerKinds(in layout: TensorLayout) -> [LayerKind?] {
        var kinds: [LayerKind?] = []
        for (pattern, occurrences) in occurrences {
            let roles = layout.roles(of: Quantisation.weight(of: pattern) ?? pattern).filter(\.isOfLayer)
            guard !roles.isEmpty else { continue }
            for case let number? in occurrences.map(\.number) where number < Self.layerLimit {
                while kinds.count <= number { kinds.append(nil) }
                // A teacher's queries may have been left beside the student's receptance.
                if roles.contains(.receptanceWeight) { kinds[number] = .rwkv7 }
                if roles.contains(.queryWeight), kinds[number] == nil { kinds[number] = .gqa }
            }
        }
        return kinds
    }

    func tensor(_ occurrence: Occurrence) -> TensorInfo { checkpoint.tensors[occurrence.position] }

    /// How many tensors a layout has names for.
    func count(in layout: TensorLayout) -> Int {
        occurrences.reduce(0) { layout.roles(of: $1.key).isEmpty ? $0 : $0 + $1.value.count }
    }
}
