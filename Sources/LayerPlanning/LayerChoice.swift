import Bytes
import CheckpointFiles
public import ModelFamilies

/// A way to choose the layers that keep attention.
public enum LayerChoice: Sendable, Hashable {
    /// Exactly these layers.
    case listed(Set<Int>)
    /// The layers in the ``PublishedSelection`` with this name.
    case published(String)
    /// This many layers, subject to conditions.
    case count(Int, LayerConditions)
    /// As many layers as fit into this many bytes, subject to conditions. The budget covers the KV cache of these
    /// layers at `context` tokens and the state of all other layers.
    case budget(Int, context: Int, LayerConditions)
}

/// The constraints on a choice of layers, and their preferred spacing.
public struct LayerConditions: Sendable, Hashable {
    /// The preferred spacing of the layers.
    public var spacing = LayerSelection.Spacing.prior
    /// The layers that must keep attention.
    public var required: Set<Int> = []
    /// The layers that must not keep attention.
    ///
    /// Layer 0 is also forbidden unless it is required, because the first time-mixing layer provides the values that
    /// later layers reuse.
    public var forbidden: Set<Int> = []
    /// The smallest allowed difference between the indices of two layers that keep attention.
    public var minimumGap = 1

    /// Creates conditions with default values.
    public init() {}

    /// The forbidden layers, including layer 0 unless it is required.
    var excluded: Set<Int> { required.contains(0) ? forbidden : forbidden.union([0]) }

    /// Returns the range of attention layer counts that the conditions allow.
    ///
    /// Every count in the range is possible, because any layer that is not required can be left out.
    ///
    /// - Parameter layerCount: the number of layers in the model.
    /// - Returns: the range from the minimum to the maximum count.
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
    ///   - target: the architecture whose time mixing the remaining layers use.
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
            // At short contexts, a layer's cache can be smaller than its state, so more attention layers can take less
            // memory. If layers have windows, the choice of layers matters too.
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
            // While the smallest entry is only a lower bound, replace it with its exact size.
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
    /// The size in bytes of each layer's KV cache if the layer keeps attention.
    private let cacheBytes: [Int]
    /// The size of a time-mixing layer's state in bytes.
    private let stateBytes: Int

    init?(of teacher: ModelDescription, target: Architecture, context: Int) {
        guard !teacher.layers.isEmpty, let cache = teacher.cacheBytesOfLayer,
            let state = teacher.student(target, attention: [], attentionUsesRoPE: false)?.stateBytes
        else { return nil }
        cacheBytes = teacher.layers.map { cache.multiplied(clamped: min(context, $0.attention?.window ?? context)) }
        stateBytes = state / teacher.layers.count
    }

    /// Returns a lower bound on the memory that any choice of `count` attention layers takes, in bytes.
    func leastBytes(attentionCount count: Int) -> Int {
        cacheBytes.sorted().prefix(count).reduce(stateBytes.multiplied(clamped: cacheBytes.count - count)) {
            $0.adding(clamped: $1)
        }
    }

    func fits(_ size: Int, into bytes: Int) -> Bool {
        // A sum that was clamped to the maximum never fits.
        size <= min(bytes, .max - 1)
    }

    func bytes(attention: [Int]) -> Int {
        attention.reduce(stateBytes.multiplied(clamped: cacheBytes.count - attention.count)) {
            $0.adding(clamped: cacheBytes[$1])
        }
    }
}
