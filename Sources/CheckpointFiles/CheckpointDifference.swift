/// How one checkpoint differs from another, told by names, dtypes and shapes.
///
///     let difference = CheckpointDifference(from: teacher, to: student)
///     let values = try difference.compareValues(threads: 8)
public struct CheckpointDifference: Sendable {
    /// A tensor that both have.
    public struct Pair: Sendable {
        /// In the first checkpoint.
        public let a: TensorInfo
        /// In the second checkpoint, under the same name.
        public let b: TensorInfo
    }

    /// The first checkpoint.
    public let a: Checkpoint
    /// The second checkpoint.
    public let b: Checkpoint
    /// Tensors that only the second has, in its order.
    public private(set) var added: [TensorInfo] = []
    /// Tensors that only the first has, in its order.
    public private(set) var removed: [TensorInfo] = []
    /// Tensors that both have, in the first one's order.
    public private(set) var common: [Pair] = []

    /// Those of ``common`` that have another shape.
    public var reshaped: [Pair] { common.filter { $0.a.shape != $0.b.shape } }
    /// Those of ``common`` that have another dtype.
    public var recast: [Pair] { common.filter { $0.a.dtype != $0.b.dtype } }
    /// Whether both have the same names with the same dtypes and shapes.
    public var isEmpty: Bool { added.isEmpty && removed.isEmpty && reshaped.isEmpty && recast.isEmpty }

    /// Compares what two checkpoints say of their tensors; no data is read.
    public init(from a: Checkpoint, to b: Checkpoint) {
        self.a = a
        self.b = b
        for tensor in a.tensors {
            if let other = b.tensor(named: tensor.name) {
                common.append(Pair(a: tensor, b: other))
            } else {
                removed.append(tensor)
            }
        }
        added = b.tensors.filter { a.tensor(named: $0.name) == nil }
    }
}
