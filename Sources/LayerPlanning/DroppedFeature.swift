import Bytes
import ModelFamilies

/// A feature of a teacher's attention that time mixing drops or expresses differently.
public struct DroppedFeature: Sendable, Hashable {
    /// A kind of feature.
    public enum Kind: String, Sendable, CaseIterable {
        /// A sliding window. Time mixing sees all earlier tokens.
        case window
        /// A softcap on attention scores. Time mixing has none.
        case softcap
        /// A query scale s. It becomes a factor of s sqrt(N) on receptance or its norm, where N is the head size.
        case queryScale = "query_scale"
        /// Interleaved RoPE, which rotates pairs of neighbouring channels. It becomes half-split RoPE over the entire
        /// head.
        case interleavedRotation = "interleaved_rotation"
    }

    /// The kind of the feature.
    public internal(set) var kind: Kind
    /// The window in tokens, the softcap, the query scale, or the fraction of each head that RoPE rotates, depending on
    /// the kind.
    public internal(set) var value: Double
    /// The teacher's layers that have the feature, in ascending order.
    public internal(set) var layers: [Int]

    /// A clause that describes the feature and its effect on the student.
    public var outcome: String {
        switch kind {
        case .window: "a window of \(Int(value)) tokens: time mixing sees all earlier tokens"
        case .softcap: "a score softcap of \(value): time mixing has none"
        case .queryScale: "a query scale of \(value): folded into receptance"
        case .interleavedRotation:
            "interleaved RoPE over \(value) of each head: becomes half-split over the whole head"
        }
    }

    /// Returns the features of the given layers that time mixing drops or expresses differently.
    ///
    /// Each combination of kind and value appears once.
    ///
    /// - Parameters:
    ///   - teacher: the model that contains the layers.
    ///   - layers: the indices of the layers that become time mixing.
    ///   - rotates: whether the student's time mixing has RoPE.
    /// - Returns: the features, in the order of the first layer that has each feature.
    static func all(of teacher: ModelDescription, in layers: [Int], rotates: Bool) -> [DroppedFeature] {
        var all: [DroppedFeature] = []
        func add(_ kind: Kind, _ value: Double?, _ layer: Int) {
            guard let value else { return }
            if let known = all.firstIndex(where: { $0.kind == kind && $0.value == value }) {
                all[known].layers.append(layer)
            } else {
                all.append(DroppedFeature(kind: kind, value: value, layers: [layer]))
            }
        }
        for layer in layers {
            let attention = teacher.layers[layer].attention
            add(.window, attention?.window.map { Double($0) }, layer)
            add(.softcap, attention?.softcap, layer)
            if teacher.receptanceFactor(ofLayer: layer) != 1 { add(.queryScale, attention?.scale, layer) }
            if rotates, let rotation = teacher.layers[layer].rotation, rotation.isInterleaved {
                add(.interleavedRotation, rotation.parameters["partial_rotary_factor"] ?? 1, layer)
            }
        }
        return all
    }
}
