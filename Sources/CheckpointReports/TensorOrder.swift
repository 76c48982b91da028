public import CheckpointFiles

extension Checkpoint {
    /// Returns the positions of the tensors to list, sorted by `order`.
    ///
    /// The positions are indices into `tensors`. If `isIncluded` is not nil, only tensors whose names it accepts are
    /// listed. Returns nil for all tensors in the order of their offsets.
    public func positions(sortedBy order: InspectReport.Order, where isIncluded: ((String) -> Bool)? = nil) -> [Int]? {
        if isIncluded == nil, order == .offset { return nil }
        var positions = Array(tensors.indices)
        if let isIncluded { positions.removeAll { !isIncluded(tensors[$0].name) } }
        func sorted<Key>(by key: (TensorInfo) -> Key, _ precedes: (Key, Key) -> Bool) -> [Int] {
            positions.map { ($0, key(tensors[$0])) }.sorted { precedes($0.1, $1.1) }.map(\.0)
        }
        return switch order {
        case .offset: positions
        case .name: sorted(by: { Array($0.name.utf8) }, naturallyPrecedes)
        case .size: sorted(by: \.byteCount, >)
        }
    }
}
