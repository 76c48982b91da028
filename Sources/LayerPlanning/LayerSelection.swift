/// Which layers stay attention, and why.
public struct LayerSelection: Sendable, Hashable {
    /// Where layers should lie when only their number is given.
    public enum Spacing: String, Sendable, CaseIterable {
        /// The last of each of so many groups: 3, 7, 11, ...
        case lastOfGroup = "last-of-group"
        /// The middle of each.
        case uniform
        /// Where published searches found them: most from 0.45 to 0.95 of the depth, of five and more one near 0.175, none of the
        /// first three. (GA-S2 of hybrid-distillation, PostNAS, RWKVInside's stage-2 configurations.)
        case prior
    }

    /// The layers, in ascending order.
    public let layers: [Int]
    /// What is said of each of them.
    public let reasons: [Int: String]

    /// Layers that were named.
    public init(_ layers: Set<Int>, reason: String) {
        self.layers = layers.sorted()
        reasons = Dictionary(uniqueKeysWithValues: layers.map { ($0, reason) })
    }

    /// Chooses `count` of `layerCount` layers, as near as possible to where `spacing` has them.
    ///
    /// Exact: of all choices that keep the conditions, the one with the least sum of squared distances; nil where none keeps them.
    ///
    /// - Parameters:
    ///   - count: how many.
    ///   - layerCount: of how many.
    ///   - spacing: where they should lie.
    ///   - require: layers that must be chosen.
    ///   - forbid: layers that must not.
    ///   - minimumGap: the least difference between two layers that are chosen.
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

    /// The least sum of squared distances, by the number of layers chosen and the last of them.
    private static func nearest(
        to ideal: [Double], _ layerCount: Int, _ spacing: Spacing, _ require: Set<Int>, _ forbid: Set<Int>,
        _ minimumGap: Int
    ) -> [Int]? {
        guard let count = ideal.indices.last.map({ $0 + 1 }) else { return require.isEmpty ? [] : nil }
        func cost(_ number: Int, _ layer: Int) -> Double {
            guard !forbid.contains(layer) else { return .infinity }
            let distance = Double(layer) - ideal[number]
            // None of the first three, unless there is no other way.
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
                    // No required layer may be passed over.
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
    /// Where `count` of `layerCount` layers should lie, in ascending order.
    func positions(count: Int, of layerCount: Int) -> [Double] {
        switch self {
        case .lastOfGroup: return (0..<count).map { Double(($0 + 1) * layerCount / count - 1) }
        case .uniform: return (0..<count).map { (Double($0) + 0.5) * Double(layerCount) / Double(count) - 0.5 }
        case .prior:
            let last = Double(layerCount - 1)
            let early = count >= 5 ? [0.175 * last] : []
            let late = count - early.count
            // The upper half holds only so many.
            let span = max(0.5, Double(late) / Double(layerCount))
            let high = max(0.95, span)
            return early
                + (0..<late).map { (high - span + span * (Double($0) + 0.5) / Double(late)) * last }
        }
    }
}
