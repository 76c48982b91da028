/// Which of a row of numbered things are meant; prints as ranges.
struct IndexSet: Hashable {
    private(set) var indices: Set<Int> = []

    var count: Int { indices.count }

    mutating func insert(_ index: Int) { indices.insert(index) }

    mutating func formUnion(_ other: IndexSet) { indices.formUnion(other.indices) }

    func subtracting(_ other: IndexSet) -> IndexSet { IndexSet(indices: indices.subtracting(other.indices)) }

    /// `0-3, 7, 9-11`; after eight ranges `…`.
    var text: String {
        var ranges: [(first: Int, last: Int)] = []
        for index in indices.sorted() {
            if let last = ranges.indices.last, ranges[last].last + 1 == index {
                ranges[last].last = index
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
