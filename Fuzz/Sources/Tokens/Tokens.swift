@testable import CheckpointFiles
import Fuzzing
@testable import TokenFiles

/// Fuzzes the readers of token files that say how many tokens they have: NumPy's, and Megatron's data followed by its index.
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
                    // The first byte says how long the data is.
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
