import Bytes
import CRWKVKernels
import Synchronization

/// A checkpoint file written by `torch.save`.
///
/// The pickles have been read, and every tensor has been checked against its storage. Nothing that a pickle names is
/// imported or executed: ``PickleMachine`` only collects names, numbers and text, and the tensors are read from this
/// data.
struct PyTorchFile: FileContents {
    let format: FileFormat
    let dataByteCount: Int
    let warnings: [String]
    let globals: [PickleGlobal]
    let metadata: [ByteString: String] = [:]

    private let tensors: PyTorchTensors
    private let names: NameTable
    private let storages: [StoredBytes]
    private let checksums: ChecksumState?

    let headerByteCount: Int
    var tensorCount: Int { tensors.entries.count }
    var otherTensors: [OtherTensor] { tensors.others }
    var tied: [[Int]] { tensors.tied }

    init(
        format: FileFormat, tensors: PyTorchTensors, storages: [StoredBytes], globals: [PickleGlobal],
        warnings: [String]
    ) {
        self.format = format
        self.tensors = tensors
        self.storages = storages
        self.globals = globals
        self.warnings = warnings
        dataByteCount = storages.reduce(0) { $0.adding(clamped: $1.range.count) }
        checksums = storages.contains { $0.checksum != nil } ? ChecksumState() : nil
        var names = NameTable(capacity: tensors.entries.count)
        for id in tensors.entries.indices {
            _ = names.insert(UInt32(id), text: tensors.names) { tensors.entries[Int($0)].name }
        }
        self.names = names
        headerByteCount = tensors.byteCount + names.byteCount + storages.count * MemoryLayout<StoredBytes>.stride
    }

    func tensor(at position: Int, file: Int) -> TensorInfo {
        let entry = tensors.entries[position]
        let view = tensors.view(of: entry, in: storages[entry.storage].range)
        var shape = view.shape
        // torch counts two 4-bit elements as one.
        if entry.dtype == .f4E2M1, let last = shape.indices.last { shape[last] *= 2 }
        return TensorInfo(
            name: String(decoding: name(at: position), as: UTF8.self), dtype: entry.dtype, shape: shape, file: file,
            view: view, storage: entry.storage)
    }

    func size(at position: Int) -> (dtype: DType, byteCount: Int) {
        let entry = tensors.entries[position]
        return (entry.dtype, tensors.shape(of: entry).reduce(entry.elementSize, *))
    }

    func name(at position: Int) -> ArraySlice<UInt8> { tensors.names[tensors.entries[position].name] }

    func position(of name: ArraySlice<UInt8>) -> Int? {
        names.find(name, text: tensors.names) { tensors.entries[Int($0)].name }.map(Int.init)
    }

    func verify(_ tensor: TensorInfo, in source: any ByteSource) throws(CheckpointError) {
        guard let storage = tensor.storage, let checksums else { return }
        try checksums.verify(storage, storages[storage], in: source, tensor: tensor.name)
    }

    func checksum(of tensor: TensorInfo) -> UInt32? {
        guard tensor.isContiguous, let storage = tensor.storage, storages[storage].range == tensor.byteRange else {
            return nil
        }
        return storages[storage].checksum
    }
}

/// The byte range of a storage in the file, and its CRC-32 if the file records one.
struct StoredBytes: Sendable {
    var range: Range<Int>
    var checksum: UInt32?
}

/// The set of storages that have been verified against their checksums.
///
/// If several threads need the same storage, one of them verifies it while the others wait. The storages are
/// distributed over 16 locks, so threads that need different storages rarely wait for each other.
private final class ChecksumState: Sendable {
    private final class Stripe: Sendable {
        let verified = Mutex<Set<Int>>([])
    }

    private let stripes = (0..<16).map { _ in Stripe() }

    func verify(
        _ number: Int, _ storage: StoredBytes, in source: any ByteSource, tensor: String
    ) throws(CheckpointError) {
        guard let expected = storage.checksum else { return }
        try stripes[number % stripes.count].verified.withLock { verified throws(CheckpointError) in
            guard !verified.contains(number) else { return }
            let found = try source.checksum(of: storage.range)
            guard found == expected else {
                throw wrongChecksum(of: tensor, in: source.path, at: storage.range.lowerBound, expected, found)
            }
            verified.insert(number)
        }
    }
}

extension ByteSource {
    /// Computes the CRC-32 of a range of bytes, reading at most 512 KiB at a time.
    func checksum(of range: Range<Int>) throws(CheckpointError) -> UInt32 {
        var checksum: UInt32 = 0
        for start in stride(from: range.lowerBound, to: range.upperBound, by: 1 << 19) {
            let part = try bytes(start..<min(start + 1 << 19, range.upperBound))
            part.withUnsafeBytes { checksum = rwkv_crc32(checksum, $0.baseAddress, $0.count) }
        }
        return checksum
    }
}

extension [UInt8] {
    /// The CRC-32 of the bytes.
    var checksum: UInt32 { withUnsafeBytes { rwkv_crc32(0, $0.baseAddress, $0.count) } }
}
