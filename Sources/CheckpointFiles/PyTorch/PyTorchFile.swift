import CRWKVKernels
import CheckpointJSON
import Synchronization

/// A checkpoint that `torch.save` wrote, with its pickles read and every tensor checked against its storage.
///
/// Nothing in a pickle is executed, imported or looked up: ``PickleMachine`` only arranges names, numbers and text, from which
/// the tensors are then read.
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

/// The range of a storage's bytes in the file, and their CRC-32 if one was recorded.
struct StoredBytes: Sendable {
    var range: Range<Int>
    var checksum: UInt32?
}

/// Remembers which storages match their checksums.
///
/// One thread reads a storage while others that need the same one wait; threads that need other storages rarely wait.
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
    /// Computes the CRC-32 of a range, reading it through a buffer of half a megabyte.
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
