import CheckpointFiles
public import ModelFamilies

/// A way to choose the layers that stay attention.
public enum LayerChoice: Sendable, Hashable {
    /// These layers, and no others.
    case listed(Set<Int>)
    /// The layers of the ``PublishedSelection`` with this name.
    case published(String)
    /// This many layers, subject to conditions.
    case count(Int, LayerConditions)
    /// As many layers as fit into this many bytes, subject to conditions. The bytes include these layers' KV cache at
    /// `context` tokens and the state of all other layers.
    case budget(Int, context: Int, LayerConditions)
}

/// Constraints on a choice of layers, and their preferred spacing.
public struct LayerConditions: Sendable, Hashable {
    /// The preferred spacing of the layers.
    public var spacing = LayerSelection.Spacing.prior
    /// Layers that must stay attention.
    public var required: Set<Int> = []
    /// Layers that must not stay attention.
    ///
    /// Layer 0 is also forbidden unless it is required, because later layers reuse the values of the first time-mixing
    /// layer.
    public var forbidden: Set<Int> = []
    /// The smallest allowed difference between two layers that stay attention.
    public var minimumGap = 1

    /// Creates conditions with default values.
    public init() {}

    /// The forbidden layers, including layer 0 unless it is required.
    var excluded: Set<Int> { required.contains(0) ? forbidden : forbidden.union([0]) }

    /// Returns the range of possible layer counts.
    ///
    /// Every count in it is possible, because any layer that is not required can be left out.
    ///
    /// - Parameter layerCount: the number of layers of the model.
    /// - Returns: the minimum and the maximum count, as a range.
    /// - Throws: ``LayerPlanError`` if no choice satisfies the conditions.
    func counts(of layerCount: Int) throws(LayerPlanError) -> ClosedRange<Int> {
        for (list, layers) in [(LayerPlanError.List.required, required), (.forbidden, forbidden)] {
            try LayerPlanError.check(layers, in: list, layerCount: layerCount)
        }
        guard minimumGap > 0 else { throw .gap(minimumGap) }
        if let layer = required.intersection(forbidden).min() { throw .requiredAndForbidden(layer) }
        let required = required.sorted()
        for (layer, next) in zip(required, required.dropFirst()) where next - layer < minimumGap {
            throw .requiredTooClose(layer, next, minimumGap: minimumGap)
        }
        // Find the maximum: take each layer as early as the previous one allows, if that leaves room for the next
        // required layer.
        var most = 0
        var last: Int?
        var left = required[...]
        for layer in 0..<layerCount {
            let isRequired = left.first == layer
            if isRequired { left.removeFirst() }
            guard isRequired || !excluded.contains(layer), last.map({ layer - $0 >= minimumGap }) ?? true,
                isRequired || left.first.map({ $0 - layer >= minimumGap }) ?? true
            else { continue }
            most += 1
            last = layer
        }
        return required.count...most
    }
}

extension LayerSelection {
    /// Resolves a choice of layers for a teacher.
    ///
    /// - Parameters:
    ///   - choice: how to choose the layers.
    ///   - teacher: the transformer to convert.
    ///   - target: the architecture of the other layers.
    /// - Throws: ``LayerPlanError`` if the choice is impossible for the teacher.
    public init(
        _ choice: LayerChoice, for teacher: ModelDescription, target: Architecture
    ) throws(LayerPlanError) {
        let layerCount = teacher.layers.count
        switch choice {
        case .listed(let layers):
            try LayerPlanError.check(layers, in: .kept, layerCount: layerCount)
            self.init(layers, reason: "listed")
        case .published(let name):
            guard let published = PublishedSelection.all.first(where: { $0.name == name }) else {
                throw .unknownPublished(name)
            }
            guard published.layerCount == layerCount else {
                throw .publishedLayerCount(name, published.layerCount, teacher: layerCount)
            }
            self.init(Set(published.layers), reason: "as published: \(name)")
        case .count(let count, let conditions):
            let allowed = try conditions.counts(of: layerCount)
            guard allowed ~= count else { throw .count(count, allowed: allowed, layerCount: layerCount) }
            try self.init(count, of: layerCount, conditions, allowed)
        case .budget(let bytes, let context, let conditions):
            let allowed = try conditions.counts(of: layerCount)
            guard let memory = LayerMemory(of: teacher, target: target, context: context) else { throw .unknownSizes }
            // At short contexts, a cache may be smaller than a state, so more attention layers may take less memory.
            // With windows, the choice of layers matters too.
            func select(_ count: Int) throws(LayerPlanError) -> (selection: LayerSelection, bytes: Int) {
                let selection = try LayerSelection(count, of: layerCount, conditions, allowed)
                return (selection, memory.bytes(attention: selection.layers))
            }
            var least: [(count: Int, bytes: Int, isExact: Bool)] = []
            for count in allowed.reversed() {
                let bound = memory.leastBytes(attentionCount: count)
                guard memory.fits(bound, into: bytes) else {
                    least.append((count, bound, false))
                    continue
                }
                let (selection, size) = try select(count)
                if memory.fits(size, into: bytes) {
                    self = selection
                    return
                }
                least.append((count, size, true))
            }
            // Replace the smallest bound with its exact size until the smallest is exact.
            while let place = least.indices.min(by: { least[$0].bytes < least[$1].bytes }) {
                let (count, size, isExact) = least[place]
                guard !isExact else { throw .budget(bytes, context: context, smallest: size, attentionLayers: count) }
                least[place] = (count, try select(count).bytes, true)
            }
            throw .unknownSizes
        }
    }

    private init(
        _ count: Int, of layerCount: Int, _ conditions: LayerConditions, _ allowed: ClosedRange<Int>
    ) throws(LayerPlanError) {
        guard
            let selection = LayerSelection(
                count: count, of: layerCount, spacing: conditions.spacing, require: conditions.required,
                forbid: conditions.excluded, minimumGap: conditions.minimumGap)
        else { throw .count(count, allowed: allowed, layerCount: layerCount) }
        self = selection
    }
}

/// The memory that a student's layers take at a given context, in bytes.
private struct LayerMemory {
    /// The size of each layer's cache, in bytes, if the layer stays attention.
    private let cacheBytes: [Int]
    /// The size of a time-mixing layer's state, in bytes.
    private let stateBytes: Int

    init?(of teacher: ModelDescription, target: Architecture, context: Int) {
        guard !teacher.layers.isEmpty, let cache = teacher.cacheBytesOfLayer,
            let state = teacher.student(target, attention: [], attentionUsesRoPE: false)?.stateBytes
        else { return nil }
        cacheBytes = teacher.layers.map { cache.multiplied(clamped: min(context, $0.attention?.window ?? context)) }
        stateBytes = state / teacher.layers.count
    }

    /// Returns a lower bound on the bytes that any choice of `count` attention layers takes.
    func leastBytes(attentionCount count: Int) -> Int {
        cacheBytes.sorted().prefix(count).reduce(stateBytes.multiplied(clamped: cacheBytes.count - count)) {
            $0.adding(clamped: $1)
        }
    }

    func fits(_ size: Int, into bytes: Int) -> Bool {
        // A sum clamped to the maximum never fits.
        size <= min(bytes, .max - 1)
    }

    func bytes(attention: [Int]) -> Int {
        attention.reduce(stateBytes.multiplied(clamped: cacheBytes.count - attention.count)) {
            $0.adding(clamped: cacheBytes[$1])
        }
    }
}
