@testable import Bytes
@testable import CheckpointFiles
import Fuzzing
@testable import TokenFiles

/// A fuzz target for the readers of NumPy arrays and Megatron token files.
///
/// An input that begins with the byte 0x93 is a NumPy array. Any other input is the data of a Megatron file, followed
/// by its index.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            let all = Array(copying: bytes)
            do throws(CheckpointError) {
                let sequences: [[Int]]
                if all.starts(with: [0x93]) {
                    sequences = try NumpyArray(MemorySource(all, path: "input")).sequences()
                } else {
                    // The first byte, which is part of the data, gives the length of the data.
                    let length = min(all.count, Int(all.first ?? 0))
                    let data = MemorySource(Array(all.prefix(length)), path: "input")
                    let index = MemorySource(Array(all.dropFirst(length)), path: "input")
                    sequences = try MegatronTokens(data, index: index).sequences()
                }
                require(
                    sequences.joined().count <= all.count, "\(sequences.joined().count) tokens of \(all.count) bytes")
                _ = try TokenSequences(sequences, path: "input")
            } catch {
                requirePrintable(error.description)
            }
        }
    }
}
