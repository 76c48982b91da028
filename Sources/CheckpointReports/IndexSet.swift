/// A set of indices that can be printed as ranges.
struct IndexSet: Equatable {
    /// The indices, which are in ascending order and unique after a call to ``sort()``.
    private(set) var indices: [Int32] = []

    var count: Int { indices.count }

    /// Adds an index.
    ///
    /// After adding indices, call ``sort()`` before using the set.
    mutating func insert(_ index: Int32) {
        if index != indices.last { indices.append(index) }
    }

    mutating func sort() {
        guard !zip(indices, indices.dropFirst()).allSatisfy(<) else { return }
        indices.sort()
        var unique: [Int32] = []
        for index in indices where index != unique.last { unique.append(index) }
        indices = unique
    }

    mutating func formUnion(_ other: IndexSet) {
        guard !indices.isEmpty, indices != other.indices else {
            if indices.isEmpty { self = other }
            return
        }
        indices += other.indices
        sort()
    }

    func subtracting(_ other: IndexSet) -> IndexSet {
        var rest = other.indices[...]
        return IndexSet(
            indices: indices.filter { index in
                rest = rest.drop { $0 < index }
                return rest.first != index
            })
    }

    /// The indices as ranges, such as `0-3, 7, 9-11`.
    ///
    /// If there are more than eight ranges, the rest are replaced with `…`.
    var text: String {
        var ranges: [(first: Int32, last: Int32)] = []
        for index in indices {
            if let last = ranges.indices.last, ranges[last].last + 1 == index {
                ranges[last].last = index
            } else if ranges.count > 8 {
                break
            } else {
                ranges.append((index, index))
            }
        }
        let texts = ranges.prefix(8).map { range in
            switch range.last - range.first {
            case 0: "\(range.first)"
            case 1: "\(range.first), \(range.last)"
            default: "\(range.first)-\(range.last)"
            }
        }
        return texts.joined(separator: ", ") + (ranges.count > 8 ? ", …" : "")
    }
}
