/// The reason why a plan cannot be made.
public enum LayerPlanError: Error, Sendable, Hashable {
    /// A list of layers that the caller provides.
    public enum List: String, Sendable {
        /// The list in ``LayerChoice/listed(_:)``.
        case kept
        /// The list in ``LayerConditions/required``.
        case required
        /// The list in ``LayerConditions/forbidden``.
        case forbidden
    }

    /// The teacher cannot be converted faithfully, for the given reason.
    case unfitTeacher(String)
    /// A size of the teacher is not known.
    case unknownSizes
    /// The seed is negative.
    case negativeSeed(Int)
    /// The target has no attention layers, but the choice keeps some.
    case noAttention(target: String)
    /// A list contains a layer that the teacher does not have.
    case noSuchLayer(Int, in: List, layerCount: Int)
    /// There is no published selection with this name.
    case unknownPublished(String)
    /// A published selection is for a model with a different number of layers than the teacher.
    case publishedLayerCount(String, Int, teacher: Int)
    /// A layer is both required and forbidden.
    case requiredAndForbidden(Int)
    /// Two required layers are closer than the minimum gap.
    case requiredTooClose(Int, Int, minimumGap: Int)
    /// The minimum gap is not positive.
    case gap(Int)
    /// The conditions do not allow this number of layers.
    case count(Int, allowed: ClosedRange<Int>, layerCount: Int)
    /// Every choice that the conditions allow exceeds the budget. The smallest takes `smallest` bytes.
    case budget(Int, context: Int, smallest: Int, attentionLayers: Int)

    static func check(_ layers: Set<Int>, in list: List, layerCount: Int) throws(LayerPlanError) {
        guard let layer = layers.filter({ !(0..<layerCount ~= $0) }).min() else { return }
        throw .noSuchLayer(layer, in: list, layerCount: layerCount)
    }
}

extension LayerPlanError: CustomStringConvertible {
    /// A one-sentence message without a full stop.
    public var description: String {
        switch self {
        case .unfitTeacher(let reason): "the model cannot be converted faithfully: \(reason)"
        case .unknownSizes: "the model's sizes are not known"
        case .negativeSeed(let seed): "the seed must be 0 or greater, not \(seed)"
        case .noAttention(let target): "\(target) has time mixing in all layers: no layer can keep attention"
        case .noSuchLayer(let layer, _, let layerCount):
            "there is no layer \(layer): the teacher has layers 0 to \(layerCount - 1)"
        case .unknownPublished(let name):
            "there is no published model \(name); the published models are \(PublishedSelection.all.map(\.name).joined(separator: ", "))"
        case .publishedLayerCount(let name, let count, let teacher):
            "\(name) has \(count) layers, but the teacher has \(teacher)"
        case .requiredAndForbidden(let layer): "layer \(layer) is both required and forbidden"
        case .requiredTooClose(let layer, let next, let gap):
            "the required layers \(layer) and \(next) are closer than the minimum gap of \(gap)"
        case .gap(let gap): "the minimum gap must be at least 1, not \(gap)"
        case .count(let count, let allowed, let layerCount):
            "the conditions allow "
                + (allowed.count == 1
                    ? "exactly \(allowed.lowerBound)" : "\(allowed.lowerBound) to \(allowed.upperBound)")
                + " attention layers out of \(layerCount), not \(count) (layer 0 only if it is required)"
        case .budget(let bytes, let context, let smallest, let count):
            (count == 0
                ? "the RWKV state alone (\(smallest) bytes)"
                : "the smallest student that the conditions allow (\(smallest) bytes with \(count) attention layers at a context of \(context))")
                + " exceeds the budget of \(bytes) bytes"
        }
    }
}
