/// The tensors that an unpickled object holds, each under the names of the keys that lead to it.
struct PyTorchTensors: Sendable {
    struct Entry: Sendable {
        /// Where its name stands in ``names``.
        var name: Range<Int>
        /// The number of its storage, and where in that it begins, in bytes.
        var storage: Int
        var offset: Int
        var dtype: DType
        var isConjugated: Bool
        var isNegated: Bool
        /// Where its shape stands in the dimensions; its strides follow.
        fileprivate var dimensions = 0..<0

        /// Bytes of a stored element; torch stores F4 by pairs.
        var elementSize: Int { max(1, dtype.bitWidth / 8) }
    }

    /// In the order of their data once all are there.
    private(set) var entries: [Entry] = []
    /// The names as UTF-8, one behind the other.
    private(set) var names: [UInt8] = []
    /// Tensors that are not plain, and what they are.
    var others: [OtherTensor] = []
    private var dimensions: [Int] = []

    /// A tensor that is not listed yet, its dimensions kept.
    mutating func entry(
        storage: Int, offset: Int, dtype: DType, shape: [Int], strides: [Int], isConjugated: Bool, isNegated: Bool
    ) -> Entry {
        defer { dimensions += shape + strides }
        return Entry(
            name: 0..<0, storage: storage, offset: offset, dtype: dtype, isConjugated: isConjugated,
            isNegated: isNegated, dimensions: dimensions.count..<dimensions.count + 2 * shape.count)
    }

    /// Lists a tensor under a name.
    mutating func append(_ entry: Entry, name: [UInt8]) {
        var entry = entry
        entry.name = names.count..<names.count + name.count
        names += name
        entries.append(entry)
    }

    /// Puts the tensors into the order of their data, and those that two ways lead to under one name into one place.
    ///
    /// - Throws: ``CheckpointError`` where one name stands for two tensors.
    mutating func finish(stored: [StoredBytes], path: String) throws(CheckpointError) {
        var table = NameTable(capacity: entries.count)
        var kept: [Entry] = []
        kept.reserveCapacity(entries.count)
        for entry in entries {
            guard
                let earlier = table.insert(
                    UInt32(kept.count), text: names,
                    range: { id in
                        Int(id) < kept.count ? kept[Int(id)].name : entry.name
                    })
            else {
                kept.append(entry)
                continue
            }
            guard place(of: kept[Int(earlier)]) == place(of: entry) else {
                throw CheckpointError(
                    .malformed, path: path, "two tensors have this name once dictionaries are flattened",
                    tensor: excerpt(names[entry.name]))
            }
        }
        let starts = kept.map { stored[$0.storage].range.lowerBound + $0.offset }
        let order = starts.indices.sorted { (starts[$0], $0) < (starts[$1], $1) }
        entries = order.map { kept[$0] }
    }

    /// The dimensions in stored elements.
    func shape(of entry: Entry) -> ArraySlice<Int> {
        dimensions[entry.dimensions].prefix(entry.dimensions.count / 2)
    }

    private func strides(of entry: Entry) -> ArraySlice<Int> {
        dimensions[entry.dimensions].suffix(entry.dimensions.count / 2)
    }

    /// Where the elements lie, in a file that has their storage at `range`.
    func view(of entry: Entry, in range: Range<Int>) -> StridedView {
        var signs: [Int] = []
        if entry.dtype.isComplex {
            if entry.isNegated { signs.append(entry.elementSize / 2 - 1) }
            if entry.isNegated != entry.isConjugated { signs.append(entry.elementSize - 1) }
        } else if entry.isNegated {
            signs.append(entry.elementSize - 1)
        }
        return StridedView(
            shape: Array(shape(of: entry)), strides: Array(strides(of: entry)), elementSize: entry.elementSize,
            start: range.lowerBound + entry.offset, signBytes: signs)
    }

    /// What makes two tensors the same elements.
    private struct Place: Hashable {
        var storage, offset: Int
        var dtype: DType
        var dimensions: ArraySlice<Int>
        var signs: [Bool]
    }

    private func place(of entry: Entry) -> Place {
        Place(
            storage: entry.storage, offset: entry.offset, dtype: entry.dtype, dimensions: dimensions[entry.dimensions],
            signs: [entry.isConjugated, entry.isNegated])
    }

    /// Groups of tensors that are the same elements of the same storage, by number; in each the first in the file is the first.
    var tied: [[Int]] {
        var users: [Int: Int] = [:]
        for entry in entries { users[entry.storage, default: 0] += 1 }
        var groups: [Place: [Int]] = [:]
        for (number, entry) in entries.enumerated() where users[entry.storage, default: 0] > 1 {
            guard !shape(of: entry).contains(0) else { continue }
            groups[place(of: entry), default: []].append(number)
        }
        return groups.values.filter { $0.count > 1 }.sorted { $0[0] < $1[0] }
    }
}

extension DType {
    var isComplex: Bool {
        switch self {
        case .c32, .bc32, .c64, .c128: true
        default: false
        }
    }
}
