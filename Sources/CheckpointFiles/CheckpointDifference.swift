import Bytes

/// The differences between two checkpoints in tensor names, dtypes and shapes.
///
///     let difference = CheckpointDifference(from: teacher, to: student)
///     let changed = try difference.compareValues(threads: 8).changed
///
/// The value stores only the positions of tensors. Each ``TensorInfo`` is created on access.
public struct CheckpointDifference: Sendable {
    /// A pair of tensors that have the same name, one from each checkpoint.
    public struct Pair: Sendable {
        /// The tensor in the first checkpoint.
        public let a: TensorInfo
        /// The tensor with the same name in the second checkpoint.
        public let b: TensorInfo
    }

    struct Positions: Sendable {
        var a, b: UInt32
    }

    /// The first checkpoint.
    public let a: Checkpoint
    /// The second checkpoint.
    public let b: Checkpoint
    /// The names of tensors that cannot be read in at least one checkpoint, and that differ between the checkpoints or
    /// exist in only one of them.
    public let differingOthers: [String]
    /// The names of tensors that have the same description in both checkpoints, but whose values cannot be fully
    /// compared.
    ///
    /// The values of sparse tensors and the scales of quantised tensors are not read.
    public let uncomparedOthers: [String]

    private var addedPositions: [UInt32] = []
    private var removedPositions: [UInt32] = []
    private(set) var commonPositions: [Positions] = []
    private var reshapedPositions: [Positions] = []
    private var recastPositions: [Positions] = []

    /// The tensors that are only in the second checkpoint, in its order.
    public var added: some RandomAccessCollection<TensorInfo> { addedPositions.lazy.map { [b] in b.tensors[Int($0)] } }
    /// The tensors that are only in the first checkpoint, in its order.
    public var removed: some RandomAccessCollection<TensorInfo> {
        removedPositions.lazy.map { [a] in a.tensors[Int($0)] }
    }
    /// The pairs of tensors that are in both checkpoints, in the order of the first checkpoint.
    public var common: some RandomAccessCollection<Pair> { pairs(commonPositions) }
    /// The pairs in ``common`` whose shapes differ.
    public var reshaped: some RandomAccessCollection<Pair> { pairs(reshapedPositions) }
    /// The pairs in ``common`` whose dtypes differ.
    public var recast: some RandomAccessCollection<Pair> { pairs(recastPositions) }

    /// Whether both checkpoints have the same tensor names, dtypes and shapes, and ``differingOthers`` is empty.
    public var isEmpty: Bool {
        addedPositions.isEmpty && removedPositions.isEmpty && reshapedPositions.isEmpty && recastPositions.isEmpty
            && differingOthers.isEmpty
    }

    private func pairs(_ positions: [Positions]) -> some RandomAccessCollection<Pair> {
        positions.lazy.map { [a, b] in Pair(a: a.tensors[Int($0.a)], b: b.tensors[Int($0.b)]) }
    }

    /// Creates the difference between two checkpoints by comparing their headers, without reading tensor data.
    public init(from a: Checkpoint, to b: Checkpoint) {
        self.a = a
        self.b = b
        let others = (a.otherTensors.byName, b.otherTensors.byName)
        let names = Set(others.0.keys).union(others.1.keys).sorted()
        let differing = names.filter { name in
            let (x, y) = (others.0[name], others.1[name])
            // Nil means that the tensor is plain or absent. A tensor that is listed or nil in both checkpoints is
            // compared below.
            return x != y && !(x?.isListed ?? true && y?.isListed ?? true)
        }
        let uncompared = names.filter { name in
            guard let x = others.0[name], x == others.1[name] else { return false }
            return !x.isListed || x.kind.dropping(prefix: "quantised") != nil
        }
        (differingOthers, uncomparedOthers) = (differing.map(\.text), uncompared.map(\.text))
        for position in a.tensors.indices {
            guard let other = b.position(ofTensor: a.name(at: position)) else {
                removedPositions.append(UInt32(position))
                continue
            }
            let positions = Positions(a: UInt32(position), b: UInt32(other))
            commonPositions.append(positions)
            let (x, y) = (a.tensors[position], b.tensors[other])
            if x.shape != y.shape { reshapedPositions.append(positions) }
            if x.dtype != y.dtype { recastPositions.append(positions) }
        }
        for position in b.tensors.indices where a.position(ofTensor: b.name(at: position)) == nil {
            addedPositions.append(UInt32(position))
        }
    }
}

extension [OtherTensor] {
    /// The tensors, keyed by name.
    ///
    /// If several have the same name, the last one is used.
    fileprivate var byName: [ByteString: OtherTensor] { Dictionary(map { (ByteString($0.name), $0) }) { $1 } }
}
