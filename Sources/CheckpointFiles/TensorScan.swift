public import Bytes
import CRWKVKernels
import Crypto
import Dispatch
import Synchronization

/// The statistics and hash of a tensor, computed from all of its bytes.
public struct TensorScan: Sendable {
    /// The statistics of the values; nil if they were not requested or are not defined for the dtype.
    public var statistics: TensorStatistics?
    /// The SHA-256 hash of the row-major little-endian bytes; nil if it was not requested.
    public var sha256: [UInt8]?
}

extension Checkpoint {
    /// Reads tensors on several threads and computes their statistics and hashes.
    ///
    /// Each thread's buffer takes 512 KiB, or 16 MiB if any tensor is not contiguous. The result does not depend on the
    /// number of threads. In compressed files, every frame that contains bytes of the tensors is read to its end and
    /// verified.
    ///
    /// - Parameters:
    ///   - tensors: the tensors to read, which must belong to this checkpoint.
    ///   - statistics: whether to compute statistics of the values.
    ///   - sha256: whether to hash the bytes.
    ///   - threads: the number of threads.
    ///   - progress: receives the progress after every buffer, and can cancel the work.
    /// - Returns: the results, in the order of `tensors`.
    /// - Throws: `CheckpointError` of category `inputOutput`, `malformed` (a wrong checksum) or `cancelled`.
    public func scan(
        _ tensors: [TensorInfo], statistics: Bool, sha256: Bool, threads: Int, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> [TensorScan] {
        let scanner = TensorScanner(
            checkpoint: self, tensors: tensors, statistics: statistics, sha256: sha256, progress: progress)
        return try scanner.scan(threads: max(1, threads))
    }
}

/// The state of a scan: its tasks, and the results from all threads.
private final class TensorScanner: Sendable {
    /// The number of bytes to read at once, small enough that they are still in a core's cache when they are processed.
    private static let bufferSize = 1 << 19
    private static let gatheringBufferSize = 1 << 24
    /// Returns the size in bytes of the pieces that a tensor is divided into: 32 MiB, or more if there would
    /// otherwise be more than about a thousand pieces.
    ///
    /// Statistics are merged in the order of the pieces, regardless of which threads computed them. The result is
    /// therefore bit-identical for any number of threads.
    private static func pieceSize(of byteCount: Int) -> Int {
        max(1 << 25, byteCount / 1000 / bufferSize * bufferSize)
    }

    private struct Task: Sendable {
        let tensor: Int
        let range: Range<Int>
    }

    private struct Findings: Sendable {
        var failure: CheckpointError?
        var scans: [TensorScan]
        /// The statistics of each piece, with the tensor's index and the piece's start offset in the tensor.
        ///
        /// At the end, they are sorted by tensor and offset, then merged.
        var parts: [(tensor: Int, start: Int, part: StatisticsPart)] = []
    }

    private let checkpoint: Checkpoint
    private let tensors: [TensorInfo]
    private let statistics: Bool
    private let sha256: Bool
    private let progress: WorkProgress
    private let total: Int
    private let tasks: [Task]
    private let nextTask = Atomic<Int>(0)
    private let findings: Mutex<Findings>

    init(checkpoint: Checkpoint, tensors: [TensorInfo], statistics: Bool, sha256: Bool, progress: WorkProgress) {
        self.checkpoint = checkpoint
        self.tensors = tensors
        self.statistics = statistics
        self.sha256 = sha256
        self.progress = progress
        self.total = tensors.reduce(0) { $0.adding(clamped: $1.byteCount) }
        // A hash needs the bytes of its tensor in order, but statistics can be computed for each piece separately.
        let tasks = tensors.enumerated().flatMap { number, tensor in
            let count = tensor.byteCount
            let step = sha256 ? max(count, 1) : Self.pieceSize(of: count)
            return stride(from: 0, to: max(count, 1), by: step).map { start in
                Task(tensor: number, range: start..<min(start + step, count))
            }
        }
        // Use file order, which suits disks and is the only order in which some compressed files can be read
        // efficiently.
        func place(_ task: Task) -> (Int, Int) {
            (tensors[task.tensor].file, tensors[task.tensor].byteRange.lowerBound + task.range.lowerBound)
        }
        self.tasks = tasks.sorted { place($0) < place($1) }
        self.findings = Mutex(Findings(scans: Array(repeating: TensorScan(), count: tensors.count)))
    }

    func scan(threads: Int) throws(CheckpointError) -> [TensorScan] {
        let isSequential = checkpoint.files.contains { $0.source.isSequential }
        DispatchQueue.concurrentPerform(iterations: isSequential ? 1 : min(threads, max(1, tasks.count))) { _ in work()
        }
        var found = findings.withLock { $0 }
        if let failure = found.failure { throw failure }
        for file in checkpoint.files { try file.source.finish() }
        found.parts.sort { ($0.tensor, $0.start) < ($1.tensor, $1.start) }
        var index = 0
        while index < found.parts.count {
            let tensor = found.parts[index].tensor
            var joined = found.parts[index].part
            index += 1
            while index < found.parts.count, found.parts[index].tensor == tensor {
                joined.append(found.parts[index].part)
                index += 1
            }
            found.scans[tensor].statistics = joined.statistics
        }
        return found.scans
    }

    /// Performs tasks on the current thread until none are left or one fails.
    private func work() {
        let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee
        // Scattered elements are gathered through a larger buffer, so that the bytes between them are read less often.
        let isScattered = tensors.contains { !$0.isContiguous }
        let bufferSize = isScattered ? Self.gatheringBufferSize : Self.bufferSize
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferSize, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let number = nextTask.add(1, ordering: .relaxed).oldValue
            guard number < tasks.count else { return }
            do throws(CheckpointError) {
                try perform(tasks[number], buffer, kernels)
            } catch {
                findings.withLock { $0.failure = $0.failure ?? error }
                nextTask.store(tasks.count, ordering: .relaxed)
                return
            }
        }
    }

    private func perform(
        _ task: Task, _ buffer: UnsafeMutableRawBufferPointer, _ kernels: rwkv_kernels
    ) throws(CheckpointError) {
        let tensor = tensors[task.tensor]
        var hash = SHA256()
        var parts: [(tensor: Int, start: Int, part: StatisticsPart)] = []
        let pieceSize = Self.pieceSize(of: tensor.byteCount)
        for pieceStart in stride(from: task.range.lowerBound, to: task.range.upperBound, by: pieceSize) {
            let pieceEnd = min(pieceStart.adding(clamped: pieceSize), task.range.upperBound)
            var piece: StatisticsPart?
            let bufferSize = tensor.isContiguous ? Self.bufferSize : Self.gatheringBufferSize
            for start in stride(from: pieceStart, to: pieceEnd, by: bufferSize) {
                if progress.isCancelled {
                    throw CheckpointError(.cancelled, path: checkpoint.path, "cancelled")
                }
                let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(bufferSize, pieceEnd - start)])
                var span = MutableRawSpan(_unsafeBytes: bytes)
                try checkpoint.read(tensor, at: start, into: &span)
                if sha256 { hash.update(bufferPointer: UnsafeRawBufferPointer(bytes)) }
                if statistics, let part = StatisticsPart(UnsafeRawBufferPointer(bytes), tensor.dtype, kernels) {
                    if piece == nil { piece = part } else { piece?.append(part) }
                }
                progress.advance(by: bytes.count, of: total)
            }
            if let piece { parts.append((task.tensor, pieceStart, piece)) }
        }
        let digest = sha256 ? Array(hash.finalize()) : nil
        findings.withLock {
            $0.parts += parts
            $0.scans[task.tensor].sha256 = digest
        }
    }
}
