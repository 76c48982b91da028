/// A selection of the layers that keep attention, with the reason for each.
public struct LayerSelection: Sendable, Hashable {
    /// A rule for the preferred positions of attention layers when only their number is given.
    public enum Spacing: String, Sendable, CaseIterable {
        /// The layers are divided into equal groups, one for each attention layer, and the last layer of each group is
        /// preferred. With groups of four, these are layers 3, 7, 11 and so on.
        case lastOfGroup = "last-of-group"
        /// The layers are divided into equal groups, one for each attention layer, and the middle of each group is
        /// preferred.
        case uniform
        /// The positions that published searches found (GA-S2 of hybrid-distillation, PostNAS, RWKVInside's stage-2
        /// configurations). Most are at 0.45 to 0.95 of the depth. If there are five or more, one is near 0.175. The
        /// first three layers are avoided.
        case prior
    }

    /// The layers, in ascending order.
    public let layers: [Int]
    /// The reason for each layer.
    public let reasons: [Int: String]

    /// Creates a selection of the given layers, all for the same reason.
    public init(_ layers: Set<Int>, reason: String) {
        self.layers = layers.sorted()
        reasons = Dictionary(uniqueKeysWithValues: layers.map { ($0, reason) })
    }

    /// Creates a selection of `count` layers that are as close as possible to the positions that `spacing` prefers.
    ///
    /// Returns nil if no selection satisfies the conditions.
    ///
    /// Of all valid selections, this one has the smallest sum of squared distances to the preferred positions. With
    /// ``Spacing/prior``, the first three layers are also avoided unless they are required or there is no other choice.
    ///
    /// - Parameters:
    ///   - count: the number of layers to select.
    ///   - layerCount: the number of layers in the model.
    ///   - spacing: the rule for the preferred positions.
    ///   - require: the layers that must be selected.
    ///   - forbid: the layers that must not be selected.
    ///   - minimumGap: the smallest allowed difference between the indices of two selected layers.
    public init?(
        count: Int, of layerCount: Int, spacing: Spacing, require: Set<Int> = [], forbid: Set<Int> = [],
        minimumGap: Int = 1
    ) {
        guard 0...layerCount ~= count else { return nil }
        let ideal = spacing.positions(count: count, of: layerCount)
        guard let layers = Self.nearest(to: ideal, layerCount, spacing, require, forbid, max(1, minimumGap)) else {
            return nil
        }
        self.layers = layers
        var reasons: [Int: String] = [:]
        for layer in layers {
            let depth = layerCount > 1 ? Double(layer) / Double(layerCount - 1) : 0
            let hundredths = Int((depth * 100).rounded())
            let text = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
            reasons[layer] = require.contains(layer) ? "required" : "\(spacing.rawValue), at \(text) of the depth"
        }
        self.reasons = reasons
    }

    /// Finds the layers with the smallest sum of squared distances to the ideal positions.
    ///
    /// Uses dynamic programming over the number of layers chosen so far and the last of them.
    private static func nearest(
        to ideal: [Double], _ layerCount: Int, _ spacing: Spacing, _ require: Set<Int>, _ forbid: Set<Int>,
        _ minimumGap: Int
    ) -> [Int]? {
        guard let count = ideal.indices.last.map({ $0 + 1 }) else { return require.isEmpty ? [] : nil }
        func cost(_ number: Int, _ layer: Int) -> Double {
            guard !forbid.contains(layer) else { return .infinity }
            let distance = Double(layer) - ideal[number]
            // Avoid the first three layers unless they are required or there is no other choice.
            return distance * distance + (spacing == .prior && layer < 3 && !require.contains(layer) ? 1e9 : 0)
        }
        // The number of required layers before each layer.
        var before = [0]
        for layer in 0..<layerCount { before.append(before[layer] + (require.contains(layer) ? 1 : 0)) }

        var best = (0..<layerCount).map { before[$0] == 0 ? cost(0, $0) : .infinity }
        var previous: [[Int]] = []
        for number in 1..<max(1, count) {
            var next = [Double](repeating: .infinity, count: layerCount)
            var from = [Int](repeating: -1, count: layerCount)
            for layer in 0..<layerCount {
                for last in 0..<max(0, layer - minimumGap + 1) where best[last] < .infinity {
                    // Required layers must not be skipped.
                    guard before[layer] == before[last + 1] else { continue }
                    let sum = best[last] + cost(number, layer)
                    if sum < next[layer] { (next[layer], from[layer]) = (sum, last) }
                }
            }
            best = next
            previous.append(from)
        }
        let ends = (0..<layerCount).filter { best[$0] < .infinity && before[layerCount] == before[$0 + 1] }
        guard var layer = ends.min(by: { (best[$0], $0) < (best[$1], $1) }) else { return nil }
        var layers = [layer]
        for from in previous.reversed() {
            layer = from[layer]
            layers.append(layer)
        }
        return layers.reversed()
    }
}

extension LayerSelection.Spacing {
    /// Returns the preferred positions of `count` layers in a model with `layerCount` layers, in ascending order.
    ///
    /// The positions are not necessarily integers.
    func positions(count: Int, of layerCount: Int) -> [Double] {
        switch self {
        case .lastOfGroup: return (0..<count).map { Double(($0 + 1) * layerCount / count - 1) }
        case .uniform: return (0..<count).map { (Double($0) + 0.5) * Double(layerCount) / Double(count) - 0.5 }
        case .prior:
            let last = Double(layerCount - 1)
            let early = count >= 5 ? [0.175 * last] : []
            let late = count - early.count
            // If the upper half has too few layers, widen the range.
            let span = max(0.5, Double(late) / Double(layerCount))
            let high = max(0.95, span)
            return early
                + (0..<late).map { (high - span + span * (Double($0) + 0.5) / Double(late)) * last }
        }
    }
}
