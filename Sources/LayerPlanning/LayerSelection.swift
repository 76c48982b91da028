/// Which layers stay attention, and why.
public struct LayerSelection: Sendable, Hashable {
    /// Where attention layers should be if only their number is given.
    public enum Spacing: String, Sendable, CaseIterable {
        /// The last layer of each group, with as many equal groups as layers to choose: 3, 7, 11, ...
        case lastOfGroup = "last-of-group"
        /// The middle of each group.
        case uniform
        /// Where published searches found them: most from 0.45 to 0.95 of the depth, one near 0.175 if there are five or more,
        /// none in the first three layers. (GA-S2 of hybrid-distillation, PostNAS, RWKVInside's stage-2 configurations.)
        case prior
    }

    /// The layers, in ascending order.
    public let layers: [Int]
    /// The reason for each layer.
    public let reasons: [Int: String]

    /// Selects these layers, all for the same reason.
    public init(_ layers: Set<Int>, reason: String) {
        self.layers = layers.sorted()
        reasons = Dictionary(uniqueKeysWithValues: layers.map { ($0, reason) })
    }

    /// Chooses `count` of `layerCount` layers, as close as possible to where `spacing` wants them.
    ///
    /// Exact: of all choices that satisfy the conditions, the one with the least sum of squared distances; nil if there is none.
    ///
    /// - Parameters:
    ///   - count: the number of layers to choose.
    ///   - layerCount: the number of layers of the model.
    ///   - spacing: where the layers should be.
    ///   - require: layers that must be chosen.
    ///   - forbid: layers that must not be chosen.
    ///   - minimumGap: the least difference between two chosen layers.
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

    /// The choice with the least sum of squared distances, by dynamic programming over the count so far and the last layer.
    private static func nearest(
        to ideal: [Double], _ layerCount: Int, _ spacing: Spacing, _ require: Set<Int>, _ forbid: Set<Int>,
        _ minimumGap: Int
    ) -> [Int]? {
        guard let count = ideal.indices.last.map({ $0 + 1 }) else { return require.isEmpty ? [] : nil }
        func cost(_ number: Int, _ layer: Int) -> Double {
            guard !forbid.contains(layer) else { return .infinity }
            let distance = Double(layer) - ideal[number]
            // None of the first three layers, unless there is no other way.
            return distance * distance + (spacing == .prior && layer < 3 && !require.contains(layer) ? 1e9 : 0)
        }
        // How many required layers come before each layer.
        var before = [0]
        for layer in 0..<layerCount { before.append(before[layer] + (require.contains(layer) ? 1 : 0)) }

        var best = (0..<layerCount).map { before[$0] == 0 ? cost(0, $0) : .infinity }
        var previous: [[Int]] = []
        for number in 1..<max(1, count) {
            var next = [Double](repeating: .infinity, count: layerCount)
            var from = [Int](repeating: -1, count: layerCount)
            for layer in 0..<layerCount {
                for last in 0..<max(0, layer - minimumGap + 1) where best[last] < .infinity {
                    // No required layer may be skipped.
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
    /// Where `count` of `layerCount` layers should be, in ascending order; not rounded to whole layers.
    func positions(count: Int, of layerCount: Int) -> [Double] {
        switch self {
        case .lastOfGroup: return (0..<count).map { Double(($0 + 1) * layerCount / count - 1) }
        case .uniform: return (0..<count).map { (Double($0) + 0.5) * Double(layerCount) / Double(count) - 0.5 }
        case .prior:
            let last = Double(layerCount - 1)
            let early = count >= 5 ? [0.175 * last] : []
            let late = count - early.count
            // More layers than the upper half has need a wider range.
            let span = max(0.5, Double(late) / Double(layerCount))
            let high = max(0.95, span)
            return early
                + (0..<late).map { (high - span + span * (Double($0) + 0.5) / Double(late)) * last }
        }
    }
}
