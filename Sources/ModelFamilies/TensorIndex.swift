import CheckpointFiles

/// A checkpoint's tensors by pattern of name.
struct TensorIndex {
    struct Occurrence {
        /// The number that stood in the name.
        var number: Int?
        var position: Int
    }

    let checkpoint: Checkpoint
    let occurrences: [NamePattern: [Occurrence]]

    /// More patterns than any model has layers of different kinds; beyond, names have no order that could be found.
    private static let patternLimit = 20_000
    /// So many names are looked at to see whether any layout knows them.
    private static let sampleCount = 1000

    /// Puts the tensors in order; nil where no name is of a known layout.
    init?(_ checkpoint: Checkpoint, layouts: [TensorLayout]) {
        self.checkpoint = checkpoint
        let tensors = checkpoint.tensors
        let isKnown = tensors.prefix(Self.sampleCount).contains { tensor in
            let pattern = NamePattern(tensor.name)
            return layouts.contains { !$0.roles(of: pattern).isEmpty }
        }
        guard isKnown else { return nil }
        var occurrences: [NamePattern: [Occurrence]] = [:]
        for position in tensors.indices {
            let (pattern, number) = NamePattern.split(tensors[position].name)
            occurrences[pattern, default: []].append(Occurrence(number: number, position: position))
            guard occurrences.count <= Self.patternLimit else { return nil }
        }
        self.occurrences = occurrences
    }

    func tensor(_ occurrence: Occurrence) -> TensorInfo { checkpoint.tensors[occurrence.position] }

    /// How many tensors a layout has names for.
    func count(in layout: TensorLayout) -> Int {
        occurrences.reduce(0) { layout.roles(of: $1.key).isEmpty ? $0 : $0 + $1.value.count }
    }
}
