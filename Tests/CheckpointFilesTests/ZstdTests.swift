import CheckpointFiles
import Foundation
import TestSupport
import Testing

/// Files in zstd, against the files that they were made of.
@Suite struct ZstdTests {
    private struct Expected: Decodable {
        /// What each file unpacks to, below fixtures/.
        let files: [String: String]
    }

    private static let expected = (try? Repository.json("zstd/expected.json", as: Expected.self).files) ?? [:]

    @Test func knowsEveryFixture() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: Repository.fixture("zstd"))
        #expect(Set(files).subtracting(["expected.json"]) == Set(Self.expected.keys) && files.count >= 20)
    }

    @Test(arguments: expected.keys.sorted(), [1, 3]) func readsWhatWasCompressed(name: String, threads: Int) throws {
        let plain = try Checkpoint.open(Repository.fixture(try #require(Self.expected[name])))
        let packed = try Checkpoint.open(Repository.fixture("zstd/" + name))
        #expect(packed.files[0].isCompressed && packed.format == plain.format)
        #expect(packed.tensors.map(\.name) == plain.tensors.map(\.name))
        #expect(packed.tensors.map(\.dtype) == plain.tensors.map(\.dtype))
        #expect(packed.tensors.map(\.shape) == plain.tensors.map(\.shape))
        // In an order that is not that of the data.
        let order = plain.tensors.indices.reversed()
        let expected = try plain.scan(order.map { plain.tensors[$0] }, statistics: false, sha256: true, threads: 1)
        let found = try packed.scan(order.map { packed.tensors[$0] }, statistics: false, sha256: true, threads: threads)
        #expect(found.map(\.sha256) == expected.map(\.sha256))
    }

    /// Back and forth, across the ends of frames.
    @Test(arguments: ["frames-", "seekable-", ""]) func readsAnywhere(prefix: String) throws {
        let plain = try Checkpoint.open(Repository.fixture("safetensors/every-dtype.safetensors")).files[0].source
        let packed = try Checkpoint.open(Repository.fixture("zstd/\(prefix)every-dtype.safetensors.zst")).files[0]
            .source
        #expect(packed.count == plain.count)
        for (place, count) in [
            (90_000, 6000), (3, 5), (49_990, 20), (19_999, 40_002), (0, 96_000), (0, 0), (96_000, 1),
        ] {
            #expect(try bytes(packed, place, count) == bytes(plain, place, count), "\(count) at \(place)")
        }
    }

    private func bytes(_ source: any ByteSource, _ place: Int, _ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try source.read(into: &raw, at: place)
        return bytes
    }

    /// Headers can be read of a file whose checksum is wrong, but not all of its data.
    @Test func findsAWrongChecksumAtTheEnd() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("malformed-zstd/checksum"))
        #expect(throws: CheckpointError.self) {
            try checkpoint.scan(Array(checkpoint.tensors), statistics: false, sha256: true, threads: 1)
        }
    }

    /// A long frame of a format that is read everywhere.
    @Test(arguments: ["views.pth", "legacy.pth", "unsized-views.pth"]) func unpacksWithoutATrace(name: String) throws {
        var limits = ReadLimits.standard
        limits.seekableFrameBytes = 1000
        try withTemporaryDirectory { directory in
            let path = directory.path(percentEncoded: false)
            let file = Repository.fixture("zstd/\(name).zst")
            let plain = try Checkpoint.open(Repository.fixture(try #require(Self.expected[name + ".zst"])))
            let packed = try Checkpoint.open(file, limits: limits, temporaryDirectory: path)
            #expect(try FileManager.default.contentsOfDirectory(atPath: path).isEmpty)
            #expect(
                try packed.scan(Array(packed.tensors), statistics: false, sha256: true, threads: 2).map(\.sha256)
                    == plain.scan(Array(plain.tensors), statistics: false, sha256: true, threads: 2).map(\.sha256))
            #expect(throws: CheckpointError.self) {
                try Checkpoint.open(file, limits: limits, temporaryDirectory: path + "/nowhere")
            }
        }
    }
}
