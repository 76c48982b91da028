public import CheckpointFiles

extension Checkpoint {
    /// The positions in ``tensors`` of all tensors, or of those that `isIncluded` picks by name, in this order; nil where these are all,
    /// as they are.
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

/// Orders names by bytes, but runs of digits by their value: `layers.2` before `layers.10`.
func naturallyPrecedes(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    func digits(_ name: [UInt8], from start: Int) -> ArraySlice<UInt8> {
        name[start...].prefix { $0 &- UInt8(ascii: "0") < 10 }
    }
    // What both begin with, but for digits that may belong to a number which goes on.
    var i = zip(a, b).prefix { $0 == $1 }.count
    while i > 0, a[i - 1] &- UInt8(ascii: "0") < 10 { i -= 1 }
    var j = i
    while i < a.count, j < b.count {
        let (x, y) = (digits(a, from: i), digits(b, from: j))
        guard !x.isEmpty, !y.isEmpty else {
            if a[i] != b[j] { return a[i] < b[j] }
            i += 1
            j += 1
            continue
        }
        let (p, q) = (x.drop { $0 == UInt8(ascii: "0") }, y.drop { $0 == UInt8(ascii: "0") })
        if p.count != q.count { return p.count < q.count }
        if let (c, d) = zip(p, q).first(where: { $0 != $1 }) { return c < d }
        i = x.endIndex
        j = y.endIndex
    }
    if i < a.count || j < b.count { return i >= a.count }
    // Equal but for leading zeros.
    return a.lexicographicallyPrecedes(b)
}
