import CheckpointJSON

/// How one checkpoint differs from another, told by names, dtypes and shapes.
///
///     let difference = CheckpointDifference(from: teacher, to: student)
///     let changed = try difference.compareValues(threads: 8).changed
///
/// Keeps positions, and puts tensors together as they are asked for.
public struct CheckpointDifference: Sendable {
    /// A tensor that both have.
    public struct Pair: Sendable {
        /// In the first checkpoint.
        public let a: TensorInfo
        /// In the second checkpoint, under the same name.
        public let b: TensorInfo
    }

    struct Positions: Sendable {
        var a, b: UInt32
    }

    /// The first checkpoint.
    public let a: Checkpoint
    /// The second checkpoint.
    public let b: Checkpoint
    /// Names of what is not simply elements in a file (``OtherTensor``), and is in one alone, or is something else in the other.
    public let differingOthers: [String]
    /// Names of what both have but whose values say nothing by themselves, or are not read: sparse tensors, scales of quantised ones.
    public let uncomparedOthers: [String]

    private var addedPositions: [UInt32] = []
    private var removedPositions: [UInt32] = []
    private(set) var commonPositions: [Positions] = []
    private var reshapedPositions: [Positions] = []
    private var recastPositions: [Positions] = []

    /// Tensors that only the second has, in its order.
    public var added: some RandomAccessCollection<TensorInfo> { addedPositions.lazy.map { [b] in b.tensors[Int($0)] } }
    /// Tensors that only the first has, in its order.
    public var removed: some RandomAccessCollection<TensorInfo> {
        removedPositions.lazy.map { [a] in a.tensors[Int($0)] }
    }
    /// Tensors that both have, in the first one's order.
    public var common: some RandomAccessCollection<Pair> { pairs(commonPositions) }
    /// Those of ``common`` that have another shape.
    public var reshaped: some RandomAccessCollection<Pair> { pairs(reshapedPositions) }
    /// Those of ``common`` that have another dtype.
    public var recast: some RandomAccessCollection<Pair> { pairs(recastPositions) }

    /// Whether both have the same names with the same dtypes and shapes.
    public var isEmpty: Bool {
        addedPositions.isEmpty && removedPositions.isEmpty && reshapedPositions.isEmpty && recastPositions.isEmpty
            && differingOthers.isEmpty
    }

    private func pairs(_ positions: [Positions]) -> some RandomAccessCollection<Pair> {
        positions.lazy.map { [a, b] in Pair(a: a.tensors[Int($0.a)], b: b.tensors[Int($0.b)]) }
    }

    /// Compares what two checkpoints say of their tensors; no data is read.
    public init(from a: Checkpoint, to b: Checkpoint) {
        self.a = a
        self.b = b
        let others = (a.otherTensors.byName, b.otherTensors.byName)
        let names = Set(others.0.keys).union(others.1.keys).sorted()
        let differing = names.filter { name in
            let (x, y) = (others.0[name], others.1[name])
            // Those that are listed are compared as what they are listed as.
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
    /// The last one of a name stands for all.
    fileprivate var byName: [ByteString: OtherTensor] { Dictionary(map { (ByteString($0.name), $0) }) { $1 } }
}
