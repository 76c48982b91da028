import CheckpointJSON

extension PyTorchFile {
    /// Reads a checkpoint in the form that torch wrote until 1.5: five pickles (a magic number, a version, the writer's machine, the
    /// object, the keys of the storages), then for each key the number of elements and the elements. (torch/serialization.py,
    /// `_legacy_load`.)
    ///
    /// - Throws: ``CheckpointError``: `malformed` with offset or tensor, `unsupported`, or `inputOutput`.
    init(legacy source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        let pickles = try LegacyPickles(source, limits: limits)
        var collector = try PyTorchTensorCollector(pickles.object.graph, path: source.path, limits: limits)
        let stored = try pickles.storages(of: collector, in: source)
        let tensors = try collector.collect(pickles.object.value, stored: stored, fileSize: source.count)
        try self.init(
            format: .pyTorchLegacy, tensors: tensors, storages: stored,
            globals: PickleGlobal.all(in: pickles.graphs, source.path), warnings: [], path: source.path)
    }
}

/// The pickles at the beginning of a legacy file.
private struct LegacyPickles {
    let object: PickleMachine.Result
    /// Those of all five pickles.
    let graphs: [PickleGraph]

    private let keys: [Range<Int>]
    /// Where the pickles end.
    private let end: Int

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
        var results: [PickleMachine.Result] = []
        for _ in 0..<5 {
            results.append(try PickleMachine.run(bytes, from: results.last?.end ?? 0, limits: limits))
        }
        guard case .integer(1001) = results[1].graph.content(results[1].value) else {
            throw MalformedInput("the legacy checkpoint is of another version than 1001", at: results[0].end)
        }
        guard Self.isLittleEndian(results[2].graph, results[2].value) else {
            throw MalformedInput(
                "the legacy checkpoint was not written by a little-endian machine", at: results[1].end)
        }
        guard case .list = results[4].graph.content(results[4].value) else {
            throw MalformedInput("the legacy checkpoint has no list of its storages", at: results[3].end)
        }
        var keys: [Range<Int>] = []
        for item in results[4].graph.items(of: results[4].value) {
            guard case .text(let range) = results[4].graph.content(item) else {
                throw MalformedInput("the key of a storage is no text", at: results[3].end)
            }
            keys.append(range)
        }
        object = results[3]
        graphs = results.map(\.graph)
        self.keys = keys
        end = results[4].end
    }

    private static func isLittleEndian(_ graph: PickleGraph, _ value: PickleValue) -> Bool {
        let pairs = graph.items(of: value)
        return stride(from: 0, to: pairs.count - 1, by: 2).contains { place in
            guard case .text(let key) = graph.content(pairs[place]) else { return false }
            return graph.pickle[key].elementsEqual("little_endian".utf8) && pairs[place + 1] == .true
        }
    }

    /// Finds the storages behind the pickles, which must be those that the object speaks of, up to the end of the file.
    func storages(
        of collector: PyTorchTensorCollector, in source: any ByteSource
    ) throws(CheckpointError) -> [StoredBytes] {
        func malformed(
            _ problem: String, at offset: Int, expected: String? = nil, found: String? = nil
        ) -> CheckpointError {
            CheckpointError(
                .malformed, path: source.path, problem, offset: offset, expected: expected, found: found)
        }
        var places = [StoredBytes?](repeating: nil, count: collector.storages.count)
        var position = end
        for range in keys {
            let key = object.graph.pickle[range]
            guard let number = collector.number(ofKey: key), places[number] == nil else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" is listed twice, or nothing speaks of it", at: range.lowerBound)
            }
            let storage = collector.storages[number]
            guard source.count - position >= 8, source.count - position - 8 >= storage.byteCount else {
                throw malformed(
                    "the file is cut short within the storage \"\(excerpt(key))\"", at: source.count,
                    expected: "\(storage.byteCount) bytes and their number", found: "\(source.count - position)")
            }
            let count = try source.bytes(position..<position + 8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let expected = storage.byteCount / ((storage.dtype?.bitWidth ?? 8) / 8)
            guard count == UInt64(expected) else {
                throw malformed(
                    "the storage \"\(excerpt(key))\" has another number of elements than the pickle says", at: position,
                    expected: "\(expected)", found: "\(count)")
            }
            places[number] = StoredBytes(range: position + 8..<position + 8 + storage.byteCount, checksum: nil)
            position += 8 + storage.byteCount
        }
        guard position == source.count else {
            throw malformed("there are bytes behind the last storage", at: position)
        }
        var stored: [StoredBytes] = []
        for (number, place) in places.enumerated() {
            guard let place else {
                let key = collector.key(of: collector.storages[number])
                throw malformed("the storage \"\(excerpt(key))\" is not in the file", at: end)
            }
            stored.append(place)
        }
        return stored
    }
}
