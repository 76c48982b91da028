@testable import Bytes
@testable import CheckpointFiles
import Fuzzing

/// A fuzz target for the reader of zip directories and, if the directory is valid, the reader of PyTorch archives.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            let source = MemorySource(Array(copying: bytes), path: "input")
            do throws(CheckpointError) {
                check(try ZipDirectory(source, limits: .standard), count: source.count)
                _ = try PyTorchFile(zip: source, limits: .fuzzing)
            } catch {
                requirePrintable(error.description)
                if let offset = error.offset {
                    require((0...source.count).contains(offset), "offset \(offset) of \(source.count)")
                }
            }
        }
    }

    private static func check(_ directory: ZipDirectory, count: Int) {
        require(!directory.records.isEmpty, "there are no records")
        var end = 0
        for (number, record) in directory.records.enumerated() {
            require(record.data.lowerBound >= end + 30, "\(record) follows \(end)")
            require(record.data.upperBound <= count - 22, "\(record) of \(count)")
            end = record.data.upperBound
            let name = directory.name(of: record)
            requirePrintable(name.printable())
            let found = directory.record(named: name.utf8)
            require(found == number, "\(name) is found at \(found as Any)")
        }
    }
}

extension ReadLimits {
    fileprivate static var fuzzing: ReadLimits {
        var limits = ReadLimits()
        limits.tensors = 10_000
        return limits
    }
}
