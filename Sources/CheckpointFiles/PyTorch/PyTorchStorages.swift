import Bytes

/// The storages that a pickle refers to.
///
/// A storage is a block of bytes outside the pickle that contains the elements of tensors.
struct PyTorchStorages {
    /// The element type of a storage, which the storage's class determines.
    enum Elements: Hashable {
        case known(DType)
        /// The storage is untyped, and each tensor specifies its own dtype.
        case any
        /// The class is unknown, or the elements are smaller than a byte.
        case unknown
    }

    /// The pickle's description of a storage.
    struct Storage {
        /// The range of the storage's key in the pickle.
        var key: Range<Int>
        /// The size in bytes, or nil if the size of an element is unknown.
        var byteCount: Int?
        var elements: Elements

        /// The size of an element in bytes, or 1 if the storage has no known dtype.
        var elementSize: Int {
            if case .known(let dtype) = elements { dtype.bitWidth / 8 } else { 1 }
        }
    }

    /// A range of bytes in a storage, and the element type that a reference to the storage implies.
    struct Part {
        var number: Int
        var elements: Elements
        var offset: Int
        var byteCount: Int
    }

    /// The memory per storage, in bytes: its description, its location in the file, and the optional location that the
    /// reader of legacy files keeps while it locates the storages.
    private static let storageByteCount =
        MemoryLayout<Storage>.stride + MemoryLayout<StoredBytes>.stride + MemoryLayout<StoredBytes?>.stride

    private let pickle: TorchPickle
    /// The distinct storages, in the order in which the pickle first refers to them.
    private(set) var all: [Storage] = []
    private var numbers: NameTable

    /// Creates the list of the storages that `pickle` refers to.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if a reference is malformed, two references to a storage
    ///   disagree, or the budget is exceeded.
    init(_ pickle: TorchPickle, spending budget: inout PickleBudget) throws(CheckpointError) {
        self.pickle = pickle
        let identifiers = pickle.graph.persistentIdentifiers
        try budget.spend(memory: NameTable.byteCount(capacity: identifiers.count))
        numbers = NameTable(capacity: identifiers.count)
        // Memory pages that are never touched cost nothing, whereas a growing array would be copied.
        all.reserveCapacity(identifiers.count)
        for identifier in identifiers { try declare(identifier, &budget) }
    }

    /// Returns the bytes of a storage's key.
    func key(of storage: Storage) -> ArraySlice<UInt8> { pickle.graph.pickle[storage.key] }

    /// Returns the index in ``all`` of the storage with this key, or nil if there is none.
    func number(ofKey key: ArraySlice<UInt8>) -> Int? {
        numbers.find(key, text: pickle.graph.pickle) { all[Int($0)].key }.map(Int.init)
    }

    /// Adds the storage that a persistent identifier describes, or checks that the identifier agrees with an earlier
    /// one for the same storage.
    private mutating func declare(
        _ identifier: PickleValue, _ budget: inout PickleBudget
    ) throws(CheckpointError) {
        let graph = pickle.graph
        guard let fields = graph.elements(identifier), let kind = fields.first.flatMap(graph.textRange) else {
            throw pickle.malformed("a persistent identifier does not have a form that torch writes")
        }
        // ("module", class, source file, source code) describes a class, not a storage.
        if graph.pickle[kind].elementsEqual("module".utf8) { return }
        guard graph.pickle[kind].elementsEqual("storage".utf8), (5...6).contains(fields.count),
            let key = graph.textRange(fields[fields.startIndex + 2]),
            let count = graph.integer(fields[fields.startIndex + 4]),
            count >= 0
        else { throw pickle.malformed("a persistent identifier does not describe a storage") }
        // A pickle can refer to the same storage a million times, with a long key each time.
        try budget.spend(work: 500 + key.count)
        let type = try storageType(fields[fields.startIndex + 1])
        let (byteCount, overflow) = count.multipliedReportingOverflow(by: type.size ?? 1)
        guard !overflow else { throw pickle.malformed("the size of a storage overflows", found: "\(count)") }
        let storage = Storage(key: key, byteCount: type.size.map { _ in byteCount }, elements: type.elements)
        all.append(storage)
        guard
            let number = numbers.insert(UInt32(all.count - 1), text: graph.pickle, range: { all[Int($0)].key })
        else {
            return try budget.spend(memory: Self.storageByteCount)
        }
        all.removeLast()
        let earlier = all[Int(number)]
        // A tensor whose dtype has no storage class refers to the storage as untyped, even if another reference
        // gives it a type.
        let isOfOneType = earlier.elements == storage.elements || [earlier.elements, storage.elements].contains(.any)
        let counts = Set([earlier.byteCount, storage.byteCount].compactMap { $0 })
        guard isOfOneType, counts.count <= 1 else {
            throw pickle.malformed(
                "two references to a storage disagree", expected: text(of: earlier), found: text(of: storage))
        }
        all[Int(number)].byteCount = counts.first
    }

    /// Returns the element type that a storage class implies, and the size in bytes of the unit in which the pickle
    /// counts.
    ///
    /// The unit is an element if the dtype is known, and a byte for untyped and packed storages. For unknown classes,
    /// the size is nil.
    private func storageType(_ value: PickleValue) throws(CheckpointError) -> (elements: Elements, size: Int?) {
        let className = pickle.globalName(value) ?? "nothing"
        if (["torch.storage.UntypedStorage", "torch.UntypedStorage"] as [ByteString]).contains(ByteString(className)) {
            return (.any, 1)
        }
        let name = ByteString(className.dropping(prefix: "torch.cuda.") ?? className.dropping(prefix: "torch.") ?? "")
        if let type = TorchTypes.storages[name] { return (.known(type), type.bitWidth / 8) }
        if TorchTypes.packedStorages.contains(name) { return (.unknown, 1) }
        guard name.text.dropping(suffix: "Storage") != nil, !name.text.utf8.contains(UInt8(ascii: ".")) else {
            throw pickle.malformed("a storage has an unknown class", found: className)
        }
        return (.unknown, nil)
    }

    private func text(of storage: Storage) -> String {
        let size = storage.byteCount.map { "\($0) bytes" } ?? "elements"
        let type =
            switch storage.elements {
            case .known(let dtype): dtype.rawValue
            case .any: "any type"
            case .unknown: "an unknown type"
            }
        return "\"\(excerpt(key(of: storage)))\" with \(size) of \(type)"
    }

    /// Returns the part of a storage that a persistent value refers to, or nil if the value is not a valid reference.
    func part(_ value: PickleValue) throws(CheckpointError) -> Part? {
        let graph = pickle.graph
        guard case .persistent(let identifier) = graph.content(value), let fields = graph.elements(identifier),
            fields.count >= 5,
            let key = graph.textRange(fields[fields.startIndex + 2]), let number = number(ofKey: graph.pickle[key])
        else { return nil }
        let (elements, size) = try storageType(fields[fields.startIndex + 1])
        let byteCount = all[number].byteCount ?? 0
        var part = Part(number: number, elements: elements, offset: 0, byteCount: byteCount)
        // In files from before 2017, tensors share a storage through views: (key of the view, offset, length), with
        // the offset and the length in elements.
        if let size, fields.count == 6, let view = graph.elements(fields[fields.startIndex + 5]) {
            guard view.count == 3, let offset = graph.integer(view[view.startIndex + 1]),
                let count = graph.integer(view[view.startIndex + 2]), offset >= 0, count >= 0,
                offset <= byteCount / size, count <= byteCount / size - offset
            else { return nil }
            part.offset = offset * size
            part.byteCount = count * size
        }
        return part
    }
}
