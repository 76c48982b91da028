import CheckpointFiles

/// A named size of a model, in terms of which tensor shapes are given.
public enum Dimension: String, Sendable, CaseIterable {
    /// Tokens in the vocabulary (V).
    case vocabulary
    /// Channels of the residual stream (C).
    case width
    /// Heads of queries, or of receptance (H).
    case heads
    /// Heads of keys and values (Hk).
    case keyValueHeads
    /// Channels of a head (N).
    case headSize
    /// Channels of all heads together (A = H N).
    case attentionWidth
    /// Channels of all keys, or values, together (Hk N).
    case keyValueWidth
    /// Channels inside the feed-forward block (F).
    case feedForwardWidth
    /// Ranks of the low-rank parts.
    case decayRank, iclrRank, valueResidualRank, keyResidualRank, gateRank
    /// Channels that the value residual mixes: A after keys and values are repeated for each head, Hk N before.
    case valueResidualWidth

    /// The name in a sentence, such as `head size`.
    public var title: String {
        switch self {
        case .keyValueHeads: "key-value heads"
        case .headSize: "head size"
        case .attentionWidth: "attention width"
        case .keyValueWidth: "key-value width"
        case .feedForwardWidth: "feed-forward width"
        case .decayRank: "decay rank"
        case .iclrRank: "in-context learning rate rank"
        case .valueResidualRank: "value residual rank"
        case .keyResidualRank: "key residual rank"
        case .gateRank: "gate rank"
        case .valueResidualWidth: "value residual width"
        case .vocabulary, .width, .heads: rawValue
        }
    }

    /// A rank's key in plans and reports, such as `value_residual`.
    public var key: String {
        self == .iclrRank ? "iclr" : title.replacing(" rank", with: "").replacing(" ", with: "_")
    }

    /// The sizes that a model may have.
    static let plausible = 1...1 << 24

    /// The ranks, in the order in which they are reported.
    public static let ranks: [Dimension] = [.decayRank, .iclrRank, .valueResidualRank, .keyResidualRank, .gateRank]
}

/// The sizes of one model, as far as they are known.
public struct Dimensions: Sendable, Hashable {
    private var values: [Dimension: Int]

    /// Creates sizes from known ones, and adds those that follow from them.
    public init(_ values: [Dimension: Int] = [:]) {
        self.values = values
        complete()
    }

    /// A size; nil if it is not known.
    ///
    /// Setting one adds the sizes that follow from it.
    public subscript(dimension: Dimension) -> Int? {
        get { values[dimension] }
        set {
            values[dimension] = newValue
            complete()
        }
    }

    /// The sizes of a shape; nil if one of them is not known.
    public func shape(_ dimensions: [Dimension]) -> [Int]? {
        let sizes = dimensions.compactMap { values[$0] }
        return sizes.count == dimensions.count ? sizes : nil
    }

    /// The shape of a tensor in which the rows of these roles are fused; nil if a size is not known.
    package func shape(of roles: [TensorRole]) -> [Int]? {
        let shapes = roles.compactMap { shape($0.shape) }
        guard shapes.count == roles.count, var shape = shapes.first, !shape.isEmpty else { return shapes.first }
        shape[0] = shapes.reduce(0) { $0.adding(clamped: $1[0]) }
        return shape
    }

    /// Adds the sizes that follow from A = H N and from the key-value width, Hk N.
    private mutating func complete() {
        for (product, count) in [(Dimension.attentionWidth, Dimension.heads), (.keyValueWidth, .keyValueHeads)] {
            switch (values[product], values[count], values[.headSize]) {
            case (nil, let count?, let size?):
                let (width, overflow) = count.multipliedReportingOverflow(by: size)
                if !overflow, Dimension.plausible ~= width { values[product] = width }
            case (let width?, nil, let size?) where size > 0 && width % size == 0: values[count] = width / size
            case (let width?, let heads?, nil) where heads > 0 && width % heads == 0: values[.headSize] = width / heads
            default: break
            }
        }
    }
}
