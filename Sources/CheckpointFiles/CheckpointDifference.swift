import CheckpointJSON

/// The differences between two checkpoints in tensor names, dtypes and shapes.
///
///     let difference = CheckpointDifference(from: teacher, to: student)
///     let changed = try difference.compareValues(threads: 8).changed
///
/// Only positions are stored; each ``TensorInfo`` is built on access.
public struct CheckpointDifference: Sendable {
    /// A tensor that both checkpoints have.
    public struct Pair: Sendable {
        /// The tensor in the first checkpoint.
        public let a: TensorInfo
        /// The tensor of the same name in the second checkpoint.
        public let b: TensorInfo
    }

    struct Positions: Sendable {
        var a, b: UInt32
    }

    /// The first checkpoint.
    public let a: Checkpoint
    /// The second checkpoint.
    public let b: Checkpoint
    /// The names of tensors that are unreadable in one checkpoint, and absent or different in the other.
    public let differingOthers: [String]
    /// The name of each ``OtherTensor`` that is the same in both checkpoints but whose values are not fully compared.
    ///
    /// Neither sparse tensors nor the scales of quantised tensors are read.
    public let uncomparedOthers: [String]

    private var addedPositions: [UInt32] = []
    private var removedPositions: [UInt32] = []
    private(set) var commonPositions: [Positions] = []
    private var reshapedPositions: [Positions] = []
    private var recastPositions: [Positions] = []

    /// The tensors that only the second checkpoint has, in its order.
    public var added: some RandomAccessCollection<TensorInfo> { addedPositions.lazy.map { [b] in b.tensors[Int($0)] } }
    /// The tensors that only the first checkpoint has, in its order.
    public var removed: some RandomAccessCollection<TensorInfo> {
        removedPositions.lazy.map { [a] in a.tensors[Int($0)] }
    }
    /// The tensors that both checkpoints have, in the order of the first.
    public var common: some RandomAccessCollection<Pair> { pairs(commonPositions) }
    /// The pairs in ``common`` whose shapes differ.
    public var reshaped: some RandomAccessCollection<Pair> { pairs(reshapedPositions) }
    /// The pairs in ``common`` whose dtypes differ.
    public var recast: some RandomAccessCollection<Pair> { pairs(recastPositions) }

    /// Whether both checkpoints have the same names with the same dtypes and shapes, and ``differingOthers`` is empty.
    public var isEmpty: Bool {
        addedPositions.isEmpty && removedPositions.isEmpty && reshapedPositions.isEmpty && recastPositions.isEmpty
            && differingOthers.isEmpty
    }

    private func pairs(_ positions: [Positions]) -> some RandomAccessCollection<Pair> {
        positions.lazy.map { [a, b] in Pair(a: a.tensors[Int($0.a)], b: b.tensors[Int($0.b)]) }
    }

    /// Compares the headers of two checkpoints; no tensor data is read.
    public init(from a: Checkpoint, to b: Checkpoint) {
        self.a = a
        self.b = b
        let others = (a.otherTensors.byName, b.otherTensors.byName)
        let names = Set(others.0.keys).union(others.1.keys).sorted()
        let differing = names.filter { name in
            let (x, y) = (others.0[name], others.1[name])
            // If the tensor is listed, plain (nil) or absent (also nil) in both checkpoints, it is compared below.
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
    /// The tensors by name; the last of several with the same name.
    fileprivate var byName: [ByteString: OtherTensor] { Dictionary(map { (ByteString($0.name), $0) }) { $1 } }
}
