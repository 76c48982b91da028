import Bytes
import TestSupport
import Testing

@testable import CheckpointFiles
@testable import CheckpointReports

@Suite struct TensorTreeTests {
    private func tensor(_ name: String, _ shape: [Int] = [2], _ dtype: DType = .bf16) -> TensorInfo {
        let count = shape.reduce(1, *) * dtype.bitWidth / 8
        return TensorInfo(name: name, dtype: dtype, shape: shape, file: 0, byteRange: 0..<count)
    }

    private func tree(_ tensors: [TensorInfo]) -> String {
        text { TensorTree(tensors).write(to: &$0) }
    }

    @Test func foldsWhatRepeatsAndCallsOutExceptions() {
        var tensors = [tensor("emb.weight", [256, 8])]
        for layer in 0..<12 {
            tensors.append(tensor("blocks.\(layer).ln1.weight"))
            if layer == 0 { tensors.append(tensor("blocks.0.ln0.weight")) }
            if layer > 0 { tensors.append(tensor("blocks.\(layer).att.v0")) }
            tensors.append(tensor("blocks.\(layer).att.w0", [2], layer == 5 ? .f32 : .bf16))
        }
        #expect(
            tree(tensors) == """
                ├─ blocks.#       × 12  0-11                    148 B
                │  ├─ att                                        96 B
                │  │  ├─ v0       not 0       BF16  [2]          44 B
                │  │  ├─ w0       not 5       BF16  [2]          44 B
                │  │  └─ w0       only 5      F32   [2]           8 B
                │  ├─ ln0.weight  only 0      BF16  [2]           4 B
                │  └─ ln1.weight              BF16  [2]          48 B
                └─ emb.weight                 BF16  [256, 8]  4.10 kB

                """)
    }

    @Test func foldsExpertsWithinLayers() {
        var tensors: [TensorInfo] = []
        for layer in 1..<4 {
            for expert in 0..<8 { tensors.append(tensor("layers.\(layer).experts.\(expert).up.weight")) }
        }
        tensors.removeLast()
        let text = tree(tensors)
        #expect(text.contains("layers.#") && text.contains("× 3  1-3"))
        #expect(text.contains("experts.#") && text.contains("× 8  0-7"))
        #expect(text.contains("23 of 24"))
    }

    @Test func showsANameThatIsAlsoABeginning() {
        let text = tree([tensor("a"), tensor("a.b"), tensor("a.c")])
        #expect(text.contains("(itself)") && text.contains("b") && text.contains("c"))
    }

    @Test func boundsWhatItShows() {
        let many = tree((0..<500).map { tensor("name\($0)") })
        #expect(many.split(separator: "\n").count == 60)
        #expect(many.contains("441 more"))
        #expect(TensorTree((0..<30_000).map { tensor("name\($0)") }).isTooLarge)
        let deep = tree([tensor(String(repeating: "a.", count: 100_000) + "b"), tensor("c")])
        #expect(deep.split(separator: "\n").allSatisfy { $0.count < 200 })
    }

    @Test func tellsWordsFromItsOwnSigns() {
        for names in [["#.w", "0.w"], ["0.w", "#.w"], ["a.#.1", "a.1.1", "a.1.#"], ["a", "a.(itself)"]] {
            let text = tree(names.map { tensor($0) })
            #expect(text.contains("\"#\"") || text.contains("\"(itself)\""))
            #expect(text.split(separator: "\n").count >= 2)
        }
    }

    @Test func countsWhatNobodyCanCount() {
        let tensors = (0..<40).map { number in
            tensor(Array(repeating: "\(number)", count: 16).joined(separator: "."))
        }
        #expect(tree(tensors).contains("× 40  0-39"))
        let vast = TensorInfo(name: "a", dtype: .u8, shape: [.max], file: 0, byteRange: 0..<Int.max)
        #expect(tree([vast, vast]).contains("9.22 EB"))
    }

    /// Canonically equivalent names remain distinct.
    @Test func keepsSpellingsApart() {
        #expect(tree([tensor("na\u{EF}ve"), tensor("nai\u{308}ve")]).split(separator: "\n").count == 2)
    }
}

func text(_ write: (inout ByteOutput) -> Void) -> String {
    final class Received { var bytes: [UInt8] = [] }
    let received = Received()
    var output = ByteOutput { received.bytes += $0 }
    write(&output)
    try? output.finish()
    return String(decoding: received.bytes, as: UTF8.self)
}
