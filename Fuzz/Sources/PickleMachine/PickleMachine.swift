@testable import Bytes
@testable import CheckpointFiles
import Fuzzing

/// A fuzz target for the pickle machine and for the search for tensors in its result.
///
/// Every storage is assumed to exist, with the size that the pickle gives.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            let bytes = Array(copying: bytes)
            var limits = ReadLimits()
            limits.tensors = 10_000
            limits.pickleBytes = 1 << 20
            do throws(MalformedInput) {
                let result = try PickleMachine.run(bytes, valueBytes: limits.pickledValueBytes)
                require((1...bytes.count).contains(result.end), "the pickle ends at \(result.end) of \(bytes.count)")
                check(result, limits)
            } catch {
                requirePrintable(CheckpointError(error, path: "input").description)
                require((0...bytes.count).contains(error.offset), "\(error) of \(bytes.count)")
            }
        }
    }

    private static func check(_ result: PickleMachine.Result, _ limits: ReadLimits) {
        do throws(CheckpointError) {
            var names = PickleNames()
            try? names.insert(result.graph)
            for global in names.globals { requirePrintable(global.name.printable()) }
            var budget = PickleBudget(path: "input", limits: limits)
            let torch = try TorchPickle(result.graph, path: "input", limits: limits, spending: &budget)
            let storages = try PyTorchStorages(torch, spending: &budget)
            var stored: [StoredBytes] = []
            var end = 0
            for storage in storages.all {
                // No file can contain a storage of this size.
                let byteCount = storage.byteCount ?? 0
                guard byteCount < 1 << 50 else { return }
                stored.append(StoredBytes(range: end..<end + byteCount, checksum: nil))
                end += byteCount
            }
            var collector = PyTorchTensorCollector(torch, storages: storages, budget: budget)
            let tensors = try collector.collect(result.value, stored: stored, fileSize: end)
            for entry in tensors.entries {
                let range = stored[entry.storage].range
                let view = tensors.view(of: entry, in: range)
                require(
                    view.byteCount >= 0 && (view.byteCount == 0 || range.contains(view.byteRange.lowerBound)),
                    "\(view) of \(range)")
                require(view.byteRange.upperBound <= range.upperBound, "\(view) of \(range)")
                _ = requireUTF8(tensors.names[entry.name])
            }
            for other in tensors.others { requirePrintable(other.name.printable() + other.kind.printable()) }
            require(tensors.tied.allSatisfy { $0.count > 1 }, "one tensor is tied to itself")
        } catch {
            requirePrintable(error.description)
        }
    }
}
