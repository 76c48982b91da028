import CheckpointJSON
import ModelFamilies

/// What time mixing does not keep of the attention that it takes the place of.
public struct DroppedFeature: Sendable, Hashable {
    /// What it is.
    public enum Kind: String, Sendable, CaseIterable {
        /// A window of tokens; time mixing sees all that came before.
        case window
        /// A cap on scores; time mixing has none.
        case softcap
        /// The scale s of scores; receptance, or its norm, is multiplied by s sqrt(N) instead.
        case queryScale = "query_scale"
        /// Rotation of neighbouring channels, which becomes half-split over the whole head.
        case interleavedRotation = "interleaved_rotation"
    }

    /// What it is.
    public let kind: Kind
    /// The tokens of a window, the cap, the scale, or the part of each head that was turned.
    public let value: Double
    /// The layers that had it, front to back.
    public internal(set) var layers: [Int]

    /// What becomes of it, as a clause.
    public var outcome: String {
        switch kind {
        case .window: "a window of \(Int(value)) tokens: time mixing sees all that came before"
        case .softcap: "a cap of \(value) on scores: time mixing has none"
        case .queryScale: "a scale of \(value) on scores: folded into receptance"
        case .interleavedRotation:
            "rotation of neighbouring channels in \(value) of each head: half-split over the whole head"
        }
    }

    /// What a teacher's layers lose that are turned into time mixing, each kind and value once.
    ///
    /// - Parameters:
    ///   - teacher: whose layers they are.
    ///   - layers: those that are turned.
    ///   - rotates: whether the student's time mixing is rotated by position.
    /// - Returns: front to back, by the first layer of each.
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
            if teacher.queryFactor(ofLayer: layer) != 1 { add(.queryScale, attention?.scale, layer) }
            if rotates, let rotation = teacher.layers[layer].rotation, rotation.turnsNeighbours {
                add(.interleavedRotation, rotation.parameters["partial_rotary_factor"] ?? 1, layer)
            }
        }
        return all
    }
}
