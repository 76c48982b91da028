import Bytes
import CheckpointFiles

/// A named size of a model.
///
/// The shape of a tensor's role is a list of dimensions.
public enum ModelDimension: String, Sendable, CaseIterable {
    /// The number of tokens in the vocabulary (V).
    case vocabulary
    /// The number of channels of the residual stream (C).
    case width
    /// The number of query heads or receptance heads (H).
    case heads
    /// The number of key-value heads (Hk).
    case keyValueHeads
    /// The number of channels per head (N).
    case headSize
    /// The number of channels of all heads together (A = H N).
    case attentionWidth
    /// The number of channels of all key heads, or of all value heads (Hk N).
    case keyValueWidth
    /// The number of channels inside the feed-forward block (F).
    case feedForwardWidth
    /// The ranks of the low-rank parts (D).
    case decayRank, iclrRank, valueResidualRank, keyResidualRank, gateRank, shiftRank
    /// The number of data-dependent token shifts of a layer, which is five.
    case shiftCount
    /// The ranks of a layer's data-dependent token shifts together (5 D).
    case shiftRanks
    /// The number of channels of the value residual.
    ///
    /// It is Hk N if values are mixed before they are repeated for each head, and A if they are mixed afterwards.
    case valueResidualWidth

    /// The name of the dimension in sentences, such as `head size`.
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
        case .shiftRank: "token shift rank"
        case .shiftCount: "token shifts"
        case .shiftRanks: "ranks of the token shifts"
        case .valueResidualWidth: "value residual width"
        case .vocabulary, .width, .heads: rawValue
        }
    }

    /// The key of a rank in plans and reports, such as `value_residual`.
    public var key: String {
        self == .iclrRank ? "iclr" : title.replacing(" rank", with: "").replacing(" ", with: "_")
    }

    /// The range of sizes that are accepted.
    static let plausible = 1...1 << 24

    /// The dimensions that are ranks, in the order in which they are reported.
    public static let ranks: [ModelDimension] = [
        .decayRank, .iclrRank, .valueResidualRank, .keyResidualRank, .gateRank, .shiftRank,
    ]
}

/// The known sizes of a model.
public struct ModelDimensions: Sendable, Hashable {
    private var values: [ModelDimension: Int]

    /// Creates dimensions from known sizes, and derives further sizes from them.
    public init(_ values: [ModelDimension: Int] = [:]) {
        self.values = values
        complete()
    }

    /// The size of a dimension, or nil if it is not known.
    ///
    /// Setting a size also derives further sizes from it.
    public subscript(dimension: ModelDimension) -> Int? {
        get { values[dimension] }
        set {
            values[dimension] = newValue
            complete()
        }
    }

    /// Returns the sizes of a list of dimensions, or nil if any of them is not known.
    public func shape(_ dimensions: [ModelDimension]) -> [Int]? {
        let sizes = dimensions.compactMap { values[$0] }
        return sizes.count == dimensions.count ? sizes : nil
    }

    /// Returns the shape of a tensor that contains the rows of all given roles, or nil if a size is not known.
    package func shape(of roles: [TensorRole]) -> [Int]? {
        let shapes = roles.compactMap { shape($0.shape) }
        guard shapes.count == roles.count, var shape = shapes.first, !shape.isEmpty else { return shapes.first }
        shape[0] = shapes.reduce(0) { $0.adding(clamped: $1[0]) }
        return shape
    }

    /// Derives sizes from the equations attention width = H N and key-value width = Hk N, and from that of the ranks of
    /// token shifts.
    private mutating func complete() {
        for (product, count, unit) in [
            (ModelDimension.attentionWidth, ModelDimension.heads, ModelDimension.headSize),
            (.keyValueWidth, .keyValueHeads, .headSize), (.shiftRanks, .shiftCount, .shiftRank),
        ] {
            switch (values[product], values[count], values[unit]) {
            case (nil, let count?, let size?):
                let (width, overflow) = count.multipliedReportingOverflow(by: size)
                if !overflow, ModelDimension.plausible ~= width { values[product] = width }
            case (let width?, nil, let size?) where size > 0 && width % size == 0: values[count] = width / size
            case (let width?, let heads?, nil) where heads > 0 && width % heads == 0: values[unit] = width / heads
            default: break
            }
        }
    }
}
