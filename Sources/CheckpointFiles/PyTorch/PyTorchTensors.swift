/// The tensors that an unpickled object holds, each under the names of the keys that lead to it.
struct PyTorchTensors: Sendable {
    ///
    /// There may be a hundred thousand: what fits in half a word is half a word.
    struct Entry: Sendable {
        /// Where in the storage it begins, in bytes.
        var offset: Int
        fileprivate var storageNumber: UInt32
        fileprivate var nameStart: UInt32 = 0
        fileprivate var nameCount: UInt32 = 0
        fileprivate var dimensionsStart: UInt32
        fileprivate var rank: UInt32
        var dtype: DType
        var isConjugated: Bool
        var isNegated: Bool

        /// The number of its storage.
        var storage: Int { Int(storageNumber) }
        /// Where its name stands in ``names``.
        var name: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
        /// Where its shape stands in the dimensions.
        fileprivate var shape: Range<Int> { Int(dimensionsStart)..<Int(dimensionsStart) + Int(rank) }
        /// Where its strides stand in the dimensions.
        fileprivate var strides: Range<Int> { shape.upperBound..<shape.upperBound + Int(rank) }

        /// Where it begins in the file.
        fileprivate func start(in stored: [StoredBytes]) -> Int { stored[storage].range.lowerBound + offset }

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
            offset: offset, storageNumber: UInt32(storage), dimensionsStart: UInt32(dimensions.count),
            rank: UInt32(shape.count), dtype: dtype, isConjugated: isConjugated, isNegated: isNegated)
    }

    /// Lists a tensor under a name.
    mutating func append(_ entry: Entry, name: [UInt8]) {
        var entry = entry
        (entry.nameStart, entry.nameCount) = (UInt32(names.count), UInt32(name.count))
        names += name
        entries.append(entry)
    }

    /// Puts the tensors into the order of their data, and those that two ways lead to under one name into one place.
    ///
    /// - Throws: ``CheckpointError`` where one name stands for two tensors.
    mutating func finish(stored: [StoredBytes], path: String) throws(CheckpointError) {
        var table = NameTable(capacity: entries.count)
        var count = 0
        for place in entries.indices {
            let entry = entries[place]
            entries[count] = entry
            guard let earlier = table.insert(UInt32(count), text: names, range: { entries[Int($0)].name }) else {
                count += 1
                continue
            }
            guard self.place(of: entries[Int(earlier)]) == self.place(of: entry) else {
                throw CheckpointError(
                    .malformed, path: path, "two tensors have this name once dictionaries are flattened",
                    tensor: excerpt(names[entry.name]))
            }
        }
        entries.removeSubrange(count...)
        // Those that begin at one place stay in their order.
        entries.sort { $0.start(in: stored) < $1.start(in: stored) }
    }

    /// What the table of names takes for each, and another while this one is made, or half of the entries while they are sorted.
    static let tableByteCount = 32

    /// What they take in memory.
    var byteCount: Int {
        entries.count * MemoryLayout<Entry>.stride + names.count + dimensions.count * MemoryLayout<Int>.stride
            + others.reduce(0) {
                $0 + MemoryLayout<OtherTensor>.stride + PickleBudget.text($1.name.utf8.count)
                    + PickleBudget.text($1.kind.utf8.count)
            }
    }

    /// The dimensions in stored elements.
    func shape(of entry: Entry) -> ArraySlice<Int> {
        dimensions[entry.shape]
    }

    private func strides(of entry: Entry) -> ArraySlice<Int> {
        dimensions[entry.strides]
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
        var shape, strides: ArraySlice<Int>
        var isConjugated, isNegated: Bool
    }

    private func place(of entry: Entry) -> Place {
        Place(
            storage: entry.storage, offset: entry.offset, dtype: entry.dtype, shape: shape(of: entry),
            strides: strides(of: entry), isConjugated: entry.isConjugated, isNegated: entry.isNegated)
    }

    /// Groups of tensors that are the same elements of the same storage, by number; in each the first in the file is the first.
    var tied: [[Int]] {
        var users = [UInt32](repeating: 0, count: (entries.map(\.storage).max() ?? -1) + 1)
        for entry in entries { users[entry.storage] += 1 }
        var firsts: [Place: Int] = [:]
        var groups: [Int: [Int]] = [:]
        for (number, entry) in entries.enumerated() where users[entry.storage] > 1 {
            guard !shape(of: entry).contains(0) else { continue }
            let place = place(of: entry)
            if let first = firsts[place] {
                groups[first, default: [first]].append(number)
            } else {
                firsts[place] = number
            }
        }
        return groups.values.sorted { $0[0] < $1[0] }
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
