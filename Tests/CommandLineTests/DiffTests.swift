import Foundation
import TestSupport
import Testing

@Suite struct DiffTests {
    private struct Document: Decodable {
        struct Change: Decodable {
            let name: String
            let differing, incomparable: Int
            let max_abs, relative_l2, cosine: Double?
        }
        struct Named: Decodable { let name: String }
        struct Values: Decodable {
            let compared_count: Int
            let changed: [Change]
        }
        let same: Bool
        let common_count: Int
        let added, removed, reshaped, recast: [Named]
        let values: Values?
    }

    private struct Expected: Decodable {
        struct Change: Decodable {
            let differing, incomparable: Int
            let max_abs, relative_l2, cosine: Double?
        }
        let added, removed, reshaped, recast: [String]
        let changed: [String: Change]
    }

    private let a = "fixtures/diff/a.pth"
    private let b = "fixtures/diff/b.safetensors"

    private func document(_ arguments: String..., status: Int32) throws -> Document {
        let output = try CommandLineTool.run(["diff", "--json"] + arguments)
        #expect(output.status == status && output.err.isEmpty, "\(output.err)")
        return try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
    }

    @Test func findsWhatTorchFinds() throws {
        let expected = try Repository.json("diff/expected.json", as: Expected.self)
        let document = try document(a, b, "--values", status: 1)
        #expect(!document.same && document.common_count == 22)
        #expect(document.added.map(\.name) == expected.added && document.removed.map(\.name) == expected.removed)
        #expect(document.reshaped.map(\.name) == expected.reshaped)
        #expect(document.recast.map(\.name).sorted() == expected.recast)
        let values = try #require(document.values)
        #expect(values.compared_count == 21)
        #expect(Set(values.changed.map(\.name)) == Set(expected.changed.keys))
        func isClose(_ x: Double?, _ y: Double?) -> Bool {
            guard let x, let y else { return x == nil && y == nil }
            return abs(x - y) <= 1e-12 * max(abs(x), abs(y))
        }
        for change in values.changed {
            let row = try #require(expected.changed[change.name])
            #expect(change.differing == row.differing && change.incomparable == row.incomparable, "\(change)")
            #expect(isClose(change.max_abs, row.max_abs), "\(change)")
            #expect(isClose(change.relative_l2, row.relative_l2), "\(change)")
            #expect(isClose(change.cosine, row.cosine), "\(change)")
        }
    }

    @Test func readsNoValuesUnlessAsked() throws {
        let document = try document(a, b, status: 1)
        #expect(document.values == nil && document.reshaped.count == 1)
        let output = try CommandLineTool.run(["diff", a, b])
        #expect(output.status == 1)
        #expect(output.out.contains("1 added, 1 removed, 1 reshaped, 4 recast, 22 in both"))
        #expect(output.out.contains("reshaped  reshaped   [4, 6] to [6, 4]"))
    }

    @Test func findsNothingWhereNothingDiffers() throws {
        for pair in [
            [a, a], ["fixtures/pytorch/views.pth", "fixtures/pytorch/views.pth"],
            ["fixtures/safetensors/every-dtype.safetensors", "fixtures/zstd/seekable-every-dtype.safetensors.zst"],
            ["fixtures/safetensors/qwen3-sharded", "fixtures/safetensors/hub-cache/snapshots/0123abcd"],
        ] {
            let output = try CommandLineTool.run(["diff", "--values"] + pair)
            #expect(output.status == 0, "\(output)")
            #expect(output.out.contains("compared, 0 differ"))
        }
    }

    @Test func namesWhatItCannotCompare() throws {
        let output = try CommandLineTool.run(["diff", "fixtures/pytorch/special.pth", "fixtures/pytorch/special.pth"])
        #expect(output.status == 0 && output.out.contains("not plain, so not compared: "), "\(output)")
        let other = try CommandLineTool.run(["diff", "fixtures/pytorch/special.pth", a])
        #expect(other.status == 1 && other.out.contains("not a plain tensor, and different: "), "\(other)")
    }

    @Test func exitsAsDocumented() throws {
        #expect(try CommandLineTool.run(["diff", a]).status == 64)
        #expect(try CommandLineTool.run(["diff", a, "nowhere"]).status == 66)
        let evil = try CommandLineTool.run(["diff", a, "fixtures/malformed-pytorch/danger-reduce"])
        #expect(evil.status == 65 && evil.out.isEmpty && evil.err.contains("os.system"))
    }
}
