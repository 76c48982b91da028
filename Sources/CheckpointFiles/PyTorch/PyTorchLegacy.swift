import CheckpointJSON

extension PyTorchFile {
    /// Reads a checkpoint in the form that torch wrote until 1.5: five pickles (a magic number, a version, the writer's machine, the
    /// object, the keys of the storages), then for each key the number of elements and the elements. (torch/serialization.py,
    /// `_legacy_load`.)
    ///
    /// - Throws: ``CheckpointError``: `malformed` with offset or tensor, `unsupported`, or `inputOutput`.
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
    /// What the five pickles name.
    let globals: [PickleGlobal]

    /// The list of the storages' keys, and where the pickles end.
    private let keys: PickleMachine.Result

    /// What they take in memory.
    var byteCount: Int { keys.end + object.graph.byteCount + keys.graph.byteCount }

    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        // How long the pickles are only they know: read some, and more where that ends too early.
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
                        error.expected = "\(limits.pickleBytes) bytes at the most"
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
        // Only the object and the keys can be long.
        let magic = try run(from: 0, valueBytes: 1000)
        let version = try run(from: magic.end, valueBytes: 1000)
        guard case .integer(1001) = version.graph.content(version.value) else {
            throw MalformedInput("the legacy checkpoint is of another version than 1001", at: magic.end)
        }
        let machine = try run(from: version.end, valueBytes: 100_000)
        guard machine.graph.value(of: machine.value, forKey: "little_endian") == .true else {
            throw MalformedInput(
                "the legacy checkpoint was not written by a little-endian machine", at: version.end)
        }
        object = try run(from: machine.end, valueBytes: limits.pickledValueBytes)
        keys = try run(from: object.end, valueBytes: limits.pickledValueBytes / 4)
        guard case .list = keys.graph.content(keys.value) else {
            throw MalformedInput("the legacy checkpoint has no list of its storages", at: object.end)
        }
        globals = names.globals
    }

    /// Finds the storages behind the pickles, which must be those that the object speaks of, up to the end of the file.
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
                throw malformed("the key of a storage is no text", at: object.end)
            }
            let key = object.graph.pickle[range]
            guard let number = storages.number(ofKey: key), places[number] == nil else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" is listed twice, or nothing speaks of it", at: range.lowerBound)
            }
            let storage = storages.all[number]
            guard let byteCount = storage.byteCount else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" is of an unknown class, so that its end is not known",
                    at: range.lowerBound)
            }
            guard source.count - position >= 8, source.count - position - 8 >= byteCount else {
                throw malformed(
                    "the file is cut short within the storage \"\(excerpt(key))\"", at: source.count,
                    expected: "\(byteCount) bytes and their number", found: "\(source.count - position)")
            }
            let count = try source.bytes(position..<position + 8).bits(at: 0, count: 8)
            let expected = byteCount / storage.elementSize
            guard count == UInt64(expected) else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" has another number of elements than the pickle says", at: position,
                    expected: "\(expected)", found: "\(count)")
            }
            places[number] = StoredBytes(range: position + 8..<position + 8 + byteCount, checksum: nil)
            position += 8 + byteCount
        }
        guard position == source.count else {
            throw malformed("there are bytes behind the last storage", at: position)
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
