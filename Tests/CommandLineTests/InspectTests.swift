import Foundation
import TestSupport
import Testing

@Suite struct InspectTests {
    private let sharded = "fixtures/safetensors/qwen3-sharded"

    private struct Document: Decodable {
        struct Tensor: Decodable {
            struct Statistics: Decodable {
                let min, max, mean, std: Double?
                let zeros, nan, inf: Int
            }
            let name, dtype, file: String
            let shape: [Int]
            let bytes: Int
            let stats: Statistics?
            let sha256: String?
        }
        let tensor_count, parameter_count, tensor_bytes: Int
        let metadata: [String: String]
        let tensors: [Tensor]
    }

    private func document(_ arguments: String...) throws -> Document {
        let output = try CommandLineTool.run(["inspect", "--json"] + arguments)
        #expect(output.status == 0 && output.err.isEmpty, "\(output.err)")
        return try JSONDecoder().decode(Document.self, from: Data(output.out.utf8))
    }

    @Test func writesOneDocument() throws {
        for (path, expected) in try ExpectedCheckpoints.load().checkpoints {
            let document = try document("fixtures/safetensors/" + path, "--stats", "--hash")
            #expect(document.tensor_count == expected.tensors.count)
            #expect(document.parameter_count == expected.tensors.reduce(0) { $0 + $1.shape.reduce(1, *) })
            let rows = Dictionary(uniqueKeysWithValues: expected.tensors.map { (Array($0.name.utf8), $0) })
            for tensor in document.tensors {
                let row = try #require(rows[Array(tensor.name.utf8)])
                #expect(tensor.sha256 == row.sha256 && tensor.dtype == row.dtype && tensor.shape == row.shape)
                #expect(tensor.stats?.min == row.stats?.min && tensor.stats?.nan == row.stats?.nan)
            }
        }
    }

    @Test func listsTensorsInTheOrderAskedFor() throws {
        let bySize = try document(sharded, "--sort", "size").tensors.map(\.bytes)
        #expect(bySize == bySize.sorted(by: >))
        let names = try document(sharded, "--sort", "name").tensors.map(\.name)
        #expect(names.first == "model.embed_tokens.weight")
        let offsets = try document(sharded).tensors.map(\.name)
        #expect(Set(offsets) == Set(names) && offsets != names)
    }

    @Test(arguments: ["offset", "name", "size"]) func keepsWhatItFoundWithItsTensor(order: String) throws {
        let path = "qwen3-sharded"
        let expected = try #require(try ExpectedCheckpoints.load().checkpoints[path])
        let hashes = Dictionary(uniqueKeysWithValues: expected.tensors.map { ($0.name, $0.sha256) })
        for tensor in try document(sharded, "--hash", "--sort", order).tensors {
            #expect(tensor.sha256 == hashes[tensor.name], "\(tensor.name)")
        }
    }

    @Test func filtersByName() throws {
        let document = try document(sharded, "--filter", "*.[0-2].*_proj.weight")
        #expect(document.tensors.count == 3 * 7)
        #expect(document.tensor_count == 68)
        let none = try CommandLineTool.run(["inspect", sharded, "--filter", "nothing"])
        #expect(none.status == 0 && none.out.contains("0 of 68 tensors match"))
    }

    @Test func escapesWhatATerminalWouldObey() throws {
        for options in [[], ["--tensors"], ["--json"], ["--stats"]] {
            let output = try CommandLineTool.run(["inspect", "fixtures/safetensors/odd-names.safetensors"] + options)
            #expect(output.status == 0)
            let forbidden = (output.out + output.err).unicodeScalars.filter { scalar in
                scalar != "\n"
                    && [0x00...0x1F, 0x7F...0x9F, 0x200B...0x200F, 0x2028...0x202E].contains {
                        $0.contains(scalar.value)
                    }
            }
            #expect(forbidden.isEmpty)
        }
    }

    @Test func saysWhatItWarnsAboutOnStandardError() throws {
        let output = try CommandLineTool.run(["inspect", "fixtures/malformed/field-unknown"])
        #expect(output.status == 0)
        #expect(output.err.hasPrefix("rwkv-ckpt: warning: fixtures/malformed/field-unknown: 1 field other than"))
        #expect(!output.out.contains("warning"))
    }

    @Test func exitsAsDocumented() throws {
        #expect(try CommandLineTool.run(["inspect", "nowhere"]).status == 66)
        #expect(try CommandLineTool.run(["inspect", "fixtures/malformed/empty"]).status == 65)
        #expect(try CommandLineTool.run(["inspect"]).status == 64)
        #expect(try CommandLineTool.run(["inspect", "x", "--sort", "colour"]).status == 64)
        #expect(try CommandLineTool.run(["frobnicate"]).status == 64)
        #expect(try CommandLineTool.run(["--help"]).status == 0)
        #expect(try CommandLineTool.run(["--version"]).status == 0)
        let full = try FileHandle(forWritingTo: URL(filePath: "/dev/full"))
        #expect(try CommandLineTool.run(["inspect", sharded], out: full).status == 74)
    }

    @Test func givesErrorsAsADocumentToo() throws {
        let output = try CommandLineTool.run(["inspect", "--json", "fixtures/malformed/gap"])
        #expect(output.status == 65 && output.out.isEmpty)
        let error = try #require(try JSONSerialization.jsonObject(with: Data(output.err.utf8)) as? [String: Any])
        #expect(error["category"] as? String == "malformed" && error["exit_status"] as? Int == 65)
        #expect(error["tensor"] as? String == "b" && error["expected"] as? String == "1")
    }
}
