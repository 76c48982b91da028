import Bytes

extension PyTorchFile {
    /// Creates a PyTorch file from a checkpoint in the legacy format, the default of `torch.save` before torch 1.6.
    ///
    /// A legacy file begins with five pickles: a magic number, the protocol version, properties of the machine that
    /// wrote the file, the saved object, and the list of storage keys. The storages follow in the order of that list,
    /// each as an element count (8 bytes) and the elements. See `_legacy_load` in torch/serialization.py.
    ///
    /// - Throws: `CheckpointError` of category `malformed`, or any error that `source` throws.
    init(legacy source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        let pickles = try LegacyPickles(source, limits: limits)
        var budget = PickleBudget(path: source.path, limits: limits)
        try budget.spend(memory: pickles.byteCount)
        let torch = try TorchPickle(pickles.object.graph, path: source.path, limits: limits, spending: &budget)
        let storages = try PyTorchStorages(torch, spending: &budget)
        let stored = try pickles.places(of: storages, in: source)
        var collector = PyTorchTensorCollector(torch, storages: storages, budget: budget)
        let tensors = try collector.collect(pickles.object.value, stored: stored, fileSize: source.count)
        self.init(
            format: .pyTorchLegacy, tensors: tensors, storages: stored,
            globals: pickles.globals, warnings: collector.warnings)
    }
}

/// The pickles at the beginning of a legacy file.
private struct LegacyPickles {
    let object: PickleMachine.Result
    /// The distinct globals in the five pickles.
    let globals: [PickleGlobal]

    /// The pickle with the list of storage keys; the storages begin where it ends.
    private let keys: PickleMachine.Result

    /// The memory that the pickles and their values take, in bytes.
    var byteCount: Int { keys.end + object.graph.byteCount + keys.graph.byteCount }

    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        // The length of the pickles is not recorded, so read a prefix of the file, and a longer one if the pickles do
        // not end within it.
        var count = min(source.count, 1 << 16)
        while true {
            let bytes = try source.bytes(0..<count)
            let isAll = count == min(source.count, limits.pickleBytes)
            do throws(MalformedInput) {
                try self.init(bytes, path: source.path, limits: limits)
                return
            } catch {
                guard error.offset >= bytes.count, !isAll else {
                    var error = error
                    if error.offset >= bytes.count, bytes.count < source.count {
                        error.problem = "the pickles are too long"
                        error.expected = "at most \(limits.pickleBytes) bytes"
                    }
                    throw CheckpointError(error, path: source.path)
                }
                count = min(count * 8, min(source.count, limits.pickleBytes))
            }
        }
    }

    private init(_ bytes: [UInt8], path: String, limits: ReadLimits) throws(MalformedInput) {
        var names = PickleNames()
        func run(from start: Int, valueBytes: Int) throws(MalformedInput) -> PickleMachine.Result {
            let result = try PickleMachine.run(bytes, from: start, valueBytes: valueBytes)
            try names.insert(result.graph)
            return result
        }
        // Only the object and the list of keys can be large; the other pickles get small memory limits.
        let magic = try run(from: 0, valueBytes: 1000)
        let version = try run(from: magic.end, valueBytes: 1000)
        guard case .integer(1001) = version.graph.content(version.value) else {
            throw MalformedInput("the legacy checkpoint's protocol version is not 1001", at: magic.end)
        }
        let machine = try run(from: version.end, valueBytes: 100_000)
        guard machine.graph.value(of: machine.value, forKey: "little_endian") == .true else {
            throw MalformedInput(
                "the legacy checkpoint was not written by a little-endian machine", at: version.end)
        }
        object = try run(from: machine.end, valueBytes: limits.pickledValueBytes)
        keys = try run(from: object.end, valueBytes: limits.pickledValueBytes / 4)
        guard case .list = keys.graph.content(keys.value) else {
            throw MalformedInput("the legacy checkpoint has no list of storage keys", at: object.end)
        }
        globals = names.globals
    }

    /// Returns the location of each storage, in the order of `storages`.
    ///
    /// The storages must fill the file after the pickles, and the object must refer to each of them.
    func places(
        of storages: PyTorchStorages, in source: any ByteSource
    ) throws(CheckpointError) -> [StoredBytes] {
        func malformed(
            _ problem: String, at offset: Int, expected: String? = nil, found: String? = nil
        ) -> CheckpointError {
            CheckpointError(
                .malformed, path: source.path, problem, offset: offset, expected: expected, found: found)
        }
        var places = [StoredBytes?](repeating: nil, count: storages.all.count)
        var position = keys.end
        var cursor = keys.graph.cursor(at: keys.value)
        while let (_, item) = keys.graph.next(&cursor) {
            guard let range = keys.graph.textRange(item) else {
                throw malformed("the key of a storage is not text", at: object.end)
            }
            let key = object.graph.pickle[range]
            guard let number = storages.number(ofKey: key), places[number] == nil else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" is listed twice, or nothing refers to it", at: range.lowerBound)
            }
            let storage = storages.all[number]
            guard let byteCount = storage.byteCount else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" has an unknown class, so its size is not known",
                    at: range.lowerBound)
            }
            guard source.count - position >= 8, source.count - position - 8 >= byteCount else {
                throw malformed(
                    "the file is truncated within the storage \"\(excerpt(key))\"", at: source.count,
                    expected: "an 8-byte element count and \(byteCount) bytes",
                    found: "\(source.count - position) bytes")
            }
            let count = try source.bytes(position..<position + 8).bits(at: 0, count: 8)
            let expected = byteCount / storage.elementSize
            guard count == UInt64(expected) else {
                throw malformed(
                    "the element count of the storage \"\(excerpt(key))\" differs from the pickle's", at: position,
                    expected: "\(expected)", found: "\(count)")
            }
            places[number] = StoredBytes(range: position + 8..<position + 8 + byteCount, checksum: nil)
            position += 8 + byteCount
        }
        guard position == source.count else {
            throw malformed("there are bytes after the last storage", at: position)
        }
        var stored: [StoredBytes] = []
        stored.reserveCapacity(places.count)
        for (number, place) in places.enumerated() {
            guard let place else {
                let key = storages.key(of: storages.all[number])
                throw malformed("the storage \"\(excerpt(key))\" is not in the file", at: keys.end)
            }
            stored.append(place)
        }
        return stored
    }
}
