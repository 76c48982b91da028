import Bytes

extension PyTorchFile {
    /// Creates a PyTorch file from a checkpoint in the zip format, the default of `torch.save` since torch 1.6.
    ///
    /// The record `ROOT/data.pkl` contains the pickled object, and each record `ROOT/data/KEY` contains a storage. A
    /// few small records contain properties of the file, such as its version. See torch/serialization.py and
    /// caffe2/serialize/inline_container.cc.
    ///
    /// - Throws: `CheckpointError` of category `malformed` or `unsupported`, or any error that `source` throws.
    init(zip source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        var budget = PickleBudget(path: source.path, limits: limits)
        let archive = try PyTorchArchive(source, limits: limits)
        try budget.spend(memory: archive.byteCount)
        let pickle = try archive.pickle(limits: limits, spending: &budget)
        var names = PickleNames()
        do throws(MalformedInput) { try names.insert(pickle.graph) } catch {
            throw CheckpointError(error, path: source.path)
        }
        let torch = try TorchPickle(pickle.graph, path: source.path, limits: limits, spending: &budget)
        let storages = try PyTorchStorages(torch, spending: &budget)
        var stored: [StoredBytes] = []
        stored.reserveCapacity(storages.all.count)
        for storage in storages.all {
            stored.append(try archive.storage(storages.key(of: storage), byteCount: storage.byteCount))
        }
        // Verify the checksums of a small file now. In a larger file, each storage is verified when it is first read.
        let all = stored.reduce(0) { $0 + $1.range.count }
        if all < limits.checkedAtOpeningBytes {
            for storage in stored { try archive.verify(storage) }
        }
        var collector = PyTorchTensorCollector(torch, storages: storages, budget: budget)
        let tensors = try collector.collect(pickle.value, stored: stored, fileSize: source.count)
        self.init(
            format: .pyTorchZip, tensors: tensors, storages: stored,
            globals: names.globals,
            warnings: archive.warnings + collector.warnings)
    }
}

/// A PyTorch zip archive with a supported version and byte order.
private struct PyTorchArchive {
    private let source: any ByteSource
    private let directory: ZipDirectory

    /// The names of the records that torch writes in addition to the storages.
    private static let knownRecords: Set<ByteString> = [
        "data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id",
    ]

    init(_ source: any ByteSource, limits: ReadLimits) throws(CheckpointError) {
        self.source = source
        directory = try ZipDirectory(source, limits: limits)
        if directory.record(named: "constants.pkl".utf8) != nil {
            throw CheckpointError(
                .unsupported, path: source.path,
                "this is a TorchScript archive, which contains a program and is not supported",
                advice: "save the module's state_dict with torch.save")
        }
        guard let version = try text(ofRecord: "version") else {
            throw CheckpointError(.malformed, path: source.path, "the archive has no record \"version\"")
        }
        guard let number = Int(version), (1...10).contains(number) else {
            throw CheckpointError(
                .malformed, path: source.path, "the archive's version is unknown", expected: "1 to 10",
                found: "\"\(version)\"")
        }
        if let order = try text(ofRecord: "byteorder"), order != "little" {
            throw CheckpointError(
                order == "big" ? .unsupported : .malformed, path: source.path,
                "the tensors' byte order is not supported", expected: "\"little\"", found: "\"\(order)\"")
        }
    }

    /// The memory that the archive's directory takes, in bytes.
    var byteCount: Int { directory.byteCount }

    var warnings: [String] {
        var warnings: [String] = []
        let unchecked = directory.records.count { $0.checksum == 0 && !$0.data.isEmpty }
        if !directory.hasChecksums {
            warnings.append("the archive records no checksums, so changed bytes would go unnoticed")
        } else if unchecked > 0 {
            // With torch.serialization.skip_data, torch writes no checksums for storages, whose data is filled in
            // later.
            warnings.append(
                "\(unchecked) record\(unchecked == 1 ? " has" : "s have") no checksum, so changed bytes would go unnoticed"
            )
        }
        let unknown = directory.records.map(directory.name).filter { name in
            name.dropping(prefix: "data/") == nil && !Self.knownRecords.contains(ByteString(name))
        }
        if let first = unknown.first {
            warnings.append(
                "ignored \(unknown.count) record\(unknown.count == 1 ? "" : "s") that torch does not write; the first is \"\(first)\""
            )
        }
        return warnings
    }

    /// Verifies and runs the pickle of the saved object.
    func pickle(
        limits: ReadLimits, spending budget: inout PickleBudget
    ) throws(CheckpointError) -> PickleMachine.Result {
        guard let number = directory.record(named: "data.pkl".utf8) else {
            throw CheckpointError(.malformed, path: source.path, "the archive has no record \"data.pkl\"")
        }
        let record = directory.records[number]
        guard record.data.count <= limits.pickleBytes else {
            throw CheckpointError(
                .malformed, path: source.path, "the pickle is too long", offset: record.data.lowerBound,
                expected: "at most \(limits.pickleBytes) bytes", found: "\(record.data.count)")
        }
        try verify(stored(record))
        try budget.spend(memory: record.data.count)
        let bytes = try source.bytes(record.data)
        let result: PickleMachine.Result
        do throws(MalformedInput) {
            result = try PickleMachine.run(bytes, valueBytes: min(limits.pickledValueBytes, budget.memory))
            guard result.end == bytes.count else {
                throw MalformedInput("there are bytes after the end of the pickle", at: result.end)
            }
        } catch {
            throw CheckpointError(error, path: source.path, base: record.data.lowerBound)
        }
        try budget.spend(memory: result.graph.byteCount)
        return result
    }

    /// Returns the location of the storage with this key, and checks its size unless `byteCount` is nil.
    func storage(_ key: ArraySlice<UInt8>, byteCount: Int?) throws(CheckpointError) -> StoredBytes {
        guard let number = directory.record(named: Array("data/".utf8) + key) else {
            throw CheckpointError(
                .malformed, path: source.path, "the archive has no record for the storage \"\(excerpt(key))\"")
        }
        let record = directory.records[number]
        if let byteCount, record.data.count != byteCount {
            throw CheckpointError(
                .malformed, path: source.path,
                "the record of the storage \"\(excerpt(key))\" does not have the storage's size",
                offset: record.data.lowerBound, expected: "\(byteCount)", found: "\(record.data.count)")
        }
        return stored(record)
    }

    func verify(_ stored: StoredBytes) throws(CheckpointError) {
        guard let expected = stored.checksum else { return }
        let found = try source.checksum(of: stored.range)
        guard found == expected else {
            throw CheckpointError(
                .malformed, path: source.path, "the checksum of a record is wrong: its bytes were changed",
                offset: stored.range.lowerBound, expected: String(expected, radix: 16), found: String(found, radix: 16))
        }
    }

    private func stored(_ record: ZipDirectory.Record) -> StoredBytes {
        StoredBytes(range: record.data, checksum: record.checksum == 0 ? nil : record.checksum)
    }

    /// Returns the text of a record without surrounding white space, or nil if there is no such record.
    ///
    /// Throws if the record is longer than 100 bytes.
    private func text(ofRecord name: String) throws(CheckpointError) -> String? {
        guard let number = directory.record(named: name.utf8) else { return nil }
        let record = directory.records[number]
        guard record.data.count <= 100 else {
            throw CheckpointError(
                .malformed, path: source.path, "the record \"\(name)\" is too long", offset: record.data.lowerBound)
        }
        try verify(stored(record))
        let bytes = try source.bytes(record.data)
        let trimmed = bytes.drop { $0 <= 0x20 }.reversed().drop { $0 <= 0x20 }.reversed()
        return String(decoding: Array(trimmed), as: UTF8.self)
    }
}
