import CheckpointFiles

/// A named size of a model; tensor shapes are lists of these.
public enum Dimension: String, Sendable, CaseIterable {
    /// Tokens in the vocabulary (V).
    case vocabulary
    /// Channels of the residual stream (C).
    case width
    /// Query heads, or receptance heads (H).
    case heads
    /// Key-value heads (Hk).
    case keyValueHeads
    /// Channels per head (N).
    case headSize
    /// Channels of all heads together (A = H N).
    case attentionWidth
    /// Channels of all key heads, or all value heads, together (Hk N).
    case keyValueWidth
    /// Channels inside the feed-forward block (F).
    case feedForwardWidth
    /// Ranks of the low-rank parts.
    case decayRank, iclrRank, valueResidualRank, keyResidualRank, gateRank
    /// Channels that the value residual mixes: Hk N before keys and values are repeated for each head, A after.
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

    /// The range of sizes that a model may have.
    static let plausible = 1...1 << 24

    /// The ranks, in the order in which they are reported.
    public static let ranks: [Dimension] = [.decayRank, .iclrRank, .valueResidualRank, .keyResidualRank, .gateRank]
}

/// The sizes of one model, as far as they are known.
public struct Dimensions: Sendable, Hashable {
    private var values: [Dimension: Int]

    /// Creates sizes from the known ones, and derives the sizes that follow from them.
    public init(_ values: [Dimension: Int] = [:]) {
        self.values = values
        complete()
    }

    /// A size; nil if it is not known.
    ///
    /// Setting a size also derives the sizes that follow from it.
    public subscript(dimension: Dimension) -> Int? {
        get { values[dimension] }
        set {
            values[dimension] = newValue
            complete()
        }
    }

    /// Returns the sizes of a shape; nil if one of them is not known.
    public func shape(_ dimensions: [Dimension]) -> [Int]? {
        let sizes = dimensions.compactMap { values[$0] }
        return sizes.count == dimensions.count ? sizes : nil
    }

    /// Returns the shape of a tensor in which the rows of these roles are fused; nil if a size is not known.
    package func shape(of roles: [TensorRole]) -> [Int]? {
        let shapes = roles.compactMap { shape($0.shape) }
        guard shapes.count == roles.count, var shape = shapes.first, !shape.isEmpty else { return shapes.first }
        shape[0] = shapes.reduce(0) { $0.adding(clamped: $1[0]) }
        return shape
    }

    /// Derives the sizes that follow from attention width = H N and key-value width = Hk N.
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
