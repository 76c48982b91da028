@testable import Bytes
@testable import CheckpointFiles
import Fuzzing

/// A fuzz target for the parser of shard indices.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            do throws(MalformedInput) {
                check(try ShardIndex(Array(copying: bytes), limits: .standard))
            } catch {
                requirePrintable(CheckpointError(error, path: "input").description)
                require((0...bytes.count).contains(error.offset), "\(error) of \(bytes.count)")
            }
        }
    }

    private static func check(_ index: ShardIndex) {
        var isUsed = Array(repeating: false, count: index.files.count)
        for position in 0..<index.count {
            let name = index.name(at: position)
            let found = index.position(of: Array(name.utf8)[...])
            require(found == position, "\(name) at \(position) is found at \(found as Any)")
            let file = index.file(at: position)
            require(index.files.indices.contains(file), "\(name) is in file \(file) of \(index.files.count)")
            isUsed[file] = true
        }
        require(!isUsed.contains(false), "\(index.files) are used: \(isUsed)")
        for file in index.files {
            let path = Array(file.utf8)
            let isParent = path.split(separator: UInt8(ascii: "/")).contains { $0.elementsEqual("..".utf8) }
            let isAllowed = !path.isEmpty && path.first != UInt8(ascii: "/") && !path.contains(0) && !isParent
            require(isAllowed, "the file's name is \"\(file)\"")
        }
        require(index.totalSize ?? 0 >= 0, "the total size is \(index.totalSize as Any)")
    }
}
