import Bytes

/// The tensors in an unpickled object, with one entry for each path of keys that leads to a tensor.
struct PyTorchTensors: Sendable {
    /// A tensor's dtype, and the locations of its elements, name, shape and strides.
    ///
    /// A file can have a hundred thousand entries, so fields use 32 bits where their values fit.
    struct Entry: Sendable {
        /// The offset of the first element from the start of the storage, in bytes.
        var offset: Int
        fileprivate var storageNumber: UInt32
        fileprivate var nameStart: UInt32 = 0
        fileprivate var nameCount: UInt32 = 0
        fileprivate var dimensionsStart: UInt32
        fileprivate var rank: UInt32
        var dtype: DType
        var isConjugated: Bool
        var isNegated: Bool

        /// The index of the tensor's storage.
        var storage: Int { Int(storageNumber) }
        /// The range of the tensor's name in ``names``.
        var name: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
        /// The range of the tensor's shape in `dimensions`.
        fileprivate var shape: Range<Int> { Int(dimensionsStart)..<Int(dimensionsStart) + Int(rank) }
        /// The range of the tensor's strides in `dimensions`.
        fileprivate var strides: Range<Int> { shape.upperBound..<shape.upperBound + Int(rank) }

        /// Returns the offset of the first element in the file, in bytes.
        fileprivate func start(in stored: [StoredBytes]) -> Int { stored[storage].range.lowerBound + offset }

        /// The size of a stored element in bytes; torch stores F4 values in pairs, one pair per byte.
        var elementSize: Int { max(1, dtype.bitWidth / 8) }
    }

    /// The listed tensors, which ``finish(stored:path:)`` sorts by the offset of their data in the file.
    private(set) var entries: [Entry] = []
    /// The concatenated UTF-8 of all names.
    private(set) var names: [UInt8] = []
    /// The tensors that are not stored as plain elements, such as sparse or quantised tensors.
    var others: [OtherTensor] = []
    private var dimensions: [Int] = []

    /// Creates an entry for a tensor that has not been listed yet, and stores its shape and strides.
    mutating func entry(
        storage: Int, offset: Int, dtype: DType, shape: [Int], strides: [Int], isConjugated: Bool, isNegated: Bool
    ) -> Entry {
        defer { dimensions += shape + strides }
        return Entry(
            offset: offset, storageNumber: UInt32(storage), dimensionsStart: UInt32(dimensions.count),
            rank: UInt32(shape.count), dtype: dtype, isConjugated: isConjugated, isNegated: isNegated)
    }

    /// Appends an entry with the given name.
    mutating func append(_ entry: Entry, name: [UInt8]) {
        var entry = entry
        (entry.nameStart, entry.nameCount) = (UInt32(names.count), UInt32(name.count))
        names += name
        entries.append(entry)
    }

    /// Sorts the tensors by the offset of their data, and merges entries that have the same name and elements.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if two different tensors have the same name.
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
        // The sort is stable, so tensors that begin at the same offset keep their order.
        entries.sort { $0.start(in: stored) < $1.start(in: stored) }
    }

    /// The bytes per tensor for a name table, plus either a second name table or the copy of half the entries that
    /// sorting makes.
    static let tableByteCount = 32

    /// The memory that the tensors take, in bytes.
    var byteCount: Int {
        entries.count * MemoryLayout<Entry>.stride + names.count + dimensions.count * MemoryLayout<Int>.stride
            + others.reduce(0) {
                $0 + MemoryLayout<OtherTensor>.stride + PickleBudget.text($1.name.utf8.count)
                    + PickleBudget.text($1.kind.utf8.count)
            }
    }

    /// Returns a tensor's shape in stored elements, outermost dimension first.
    func shape(of entry: Entry) -> ArraySlice<Int> {
        dimensions[entry.shape]
    }

    private func strides(of entry: Entry) -> ArraySlice<Int> {
        dimensions[entry.strides]
    }

    /// Returns a view of a tensor's elements in the file, where `range` is the byte range of the tensor's storage.
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

    /// The identity of a tensor's elements; tensors with equal places share all their elements.
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

    /// The groups of tied tensors, as ascending indices into ``entries``.
    ///
    /// Tied tensors share all their elements in the same storage. Tensors without elements are never tied.
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
