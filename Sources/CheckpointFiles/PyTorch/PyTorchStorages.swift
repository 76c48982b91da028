/// The storages that a pickle speaks of: bytes elsewhere in the file, of which tensors are made.
struct PyTorchStorages {
    /// A storage as the pickle speaks of it.
    struct Storage {
        /// Where the key stands in the pickle.
        var key: Range<Int>
        /// nil: bytes whose tensors bring their own type.
        var dtype: DType?
        var byteCount: Int
    }

    /// A part of a storage.
    struct Part {
        var number: Int
        var dtype: DType?
        var offset: Int
        var byteCount: Int
    }

    private let pickle: TorchPickle
    /// In the order of the pickle.
    private(set) var all: [Storage] = []
    private var numbers: [ArraySlice<UInt8>: Int] = [:]

    /// Reads what `pickle` says of storages.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed`.
    init(_ pickle: TorchPickle) throws(CheckpointError) {
        self.pickle = pickle
        for identifier in pickle.graph.persistentIdentifiers { try declare(identifier) }
    }

    /// The key of a storage.
    func key(of storage: Storage) -> ArraySlice<UInt8> { pickle.graph.pickle[storage.key] }

    /// The number of the storage with this key.
    func number(ofKey key: ArraySlice<UInt8>) -> Int? { numbers[key] }

    /// Notes the storage that a persistent identifier speaks of.
    private mutating func declare(_ identifier: PickleValue) throws(CheckpointError) {
        let graph = pickle.graph
        guard let fields = graph.elements(identifier), let kind = fields.first.flatMap(graph.textRange) else {
            throw pickle.malformed("a persistent identifier is not what torch writes")
        }
        // ("module", class, source file, source): the class, with its source for the curious.
        if graph.pickle[kind].elementsEqual("module".utf8) { return }
        guard graph.pickle[kind].elementsEqual("storage".utf8), (5...6).contains(fields.count),
            let key = graph.textRange(fields[fields.startIndex + 2]),
            let count = graph.integer(fields[fields.startIndex + 4]),
            count >= 0
        else { throw pickle.malformed("a persistent identifier speaks of no storage") }
        let dtype = try storageType(fields[fields.startIndex + 1])
        let (byteCount, overflow) = count.multipliedReportingOverflow(by: dtype.size)
        guard !overflow else { throw pickle.malformed("the size of a storage overflows", found: "\(count)") }
        let storage = Storage(key: key, dtype: dtype.type, byteCount: byteCount)
        guard let earlier = numbers[graph.pickle[key]] else {
            numbers[graph.pickle[key]] = all.count
            all.append(storage)
            return
        }
        // Tensors of types without a storage class use the bytes of whatever storage there is.
        let types = Set([all[earlier].dtype, storage.dtype].compactMap { $0 })
        guard types.count <= 1, all[earlier].byteCount == byteCount else {
            throw pickle.malformed(
                "a storage is spoken of in two ways", expected: text(of: all[earlier]), found: text(of: storage))
        }
    }

    /// The type of a storage's elements by its class, nil for bytes of any type; and the size in bytes.
    private func storageType(_ value: PickleValue) throws(CheckpointError) -> (type: DType?, size: Int) {
        let className = pickle.globalName(value) ?? "nothing"
        if className == "torch.storage.UntypedStorage" || className == "torch.UntypedStorage" { return (nil, 1) }
        let name = className.dropping("torch.cuda.") ?? className.dropping("torch.")
        guard let type = name.flatMap({ TorchTypes.storages[$0] }) else {
            throw pickle.malformed("a storage is of an unknown class", found: className)
        }
        return (type, type.bitWidth / 8)
    }

    private func text(of storage: Storage) -> String {
        "\"\(excerpt(key(of: storage)))\" with \(storage.byteCount) bytes of \(storage.dtype?.rawValue ?? "any type")"
    }

    /// The part of a storage that a persistent value stands for; nil where it stands for none.
    func part(_ value: PickleValue) throws(CheckpointError) -> Part? {
        let graph = pickle.graph
        guard case .persistent(let identifier) = graph.content(value), let fields = graph.elements(identifier),
            fields.count >= 5,
            let key = graph.textRange(fields[fields.startIndex + 2]), let number = numbers[graph.pickle[key]]
        else { return nil }
        let dtype = try storageType(fields[fields.startIndex + 1])
        let byteCount = all[number].byteCount
        var part = Part(number: number, dtype: dtype.type, offset: 0, byteCount: byteCount)
        // (key of the view, offset, length) in elements: how files before 2017 share a storage.
        if fields.count == 6, let view = graph.elements(fields[fields.startIndex + 5]) {
            guard view.count == 3, let offset = graph.integer(view[view.startIndex + 1]),
                let count = graph.integer(view[view.startIndex + 2]), offset >= 0, count >= 0,
                offset <= byteCount / dtype.size, count <= byteCount / dtype.size - offset
            else { return nil }
            part.offset = offset * dtype.size
            part.byteCount = count * dtype.size
        }
        return part
    }
}
