import Bytes
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import CheckpointFiles

/// Compares zstd files with the files from which they were compressed.
@Suite struct ZstdTests {
    private struct Expected: Decodable {
        /// The paths in fixtures/ of the uncompressed files, keyed by the name of the zstd file.
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
        // Reverse the tensors, so that they are not read in the order of their data.
        let order = plain.tensors.indices.reversed()
        let expected = try plain.scan(order.map { plain.tensors[$0] }, statistics: false, sha256: true, threads: 1)
        let found = try packed.scan(order.map { packed.tensors[$0] }, statistics: false, sha256: true, threads: threads)
        #expect(found.map(\.sha256) == expected.map(\.sha256))
    }

    /// Reads can move backwards and forwards, and can cross the boundaries of frames.
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

    /// A file with a wrong checksum can be opened, but scanning all its tensors fails.
    @Test func findsAWrongChecksumAtTheEnd() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("malformed-zstd/checksum"))
        #expect(throws: CheckpointError.self) {
            try checkpoint.scan(Array(checkpoint.tensors), statistics: false, sha256: true, threads: 1)
        }
    }

    /// Reading the first tensor of a frame fails if the frame's checksum is wrong, even though the end of the frame is
    /// later.
    @Test func findsAWrongChecksumBehindWhatIsRead() throws {
        let plain = try Checkpoint.open(Repository.fixture("safetensors/every-dtype.safetensors"))
        let packed = try Checkpoint.open(Repository.fixture("malformed-zstd/checksum"))
        let first = try #require(packed.tensors.first)
        #expect(throws: CheckpointError.self) {
            try packed.scan([first], statistics: false, sha256: true, threads: 1)
        }
        for (a, b) in [(plain, packed), (packed, plain)] {
            #expect(throws: CheckpointError.self) {
                try CheckpointDifference(from: a, to: b).compareValues(threads: 1)
            }
        }
        let source = try Checkpoint.open(Repository.fixture("malformed-zstd/checksum")).files[0].source
        _ = try bytes(source, 0, 1000)
        #expect(throws: CheckpointError.self) { try source.finish() }
    }

    /// The checksum of a frame is verified even if the frame has been read only in part.
    @Test func findsAWrongChecksumInAFrameThatIsLeft() throws {
        let file = try Data(contentsOf: URL(filePath: Repository.fixture("zstd/frames-every-dtype.safetensors.zst")))
        let other = try Data(contentsOf: URL(filePath: Repository.fixture("malformed-zstd/checksum")))
        let source = try ZstdSource(MemorySource(Array(other + file), path: "two"), limits: .standard)
        _ = try bytes(source, 0, 1000)
        #expect(throws: CheckpointError.self) {
            _ = try bytes(source, source.count - 1000, 1000)
            try source.finish()
        }
    }

    /// A wrong seek table never leads to wrong bytes, regardless of the order in which tensors are read.
    @Test(arguments: ["table-shifted", "table-shifted-back"]) func readsOneMeaningBesideALyingTable(name: String) throws
    {
        let plain = try Checkpoint.open(Repository.fixture("safetensors/every-dtype.safetensors"))
        let packed = try Checkpoint.open(Repository.fixture("malformed-zstd/" + name))
        #expect(packed.files[0].source.isSequential)
        #expect(throws: CheckpointError.self) {
            try packed.scan(Array(packed.tensors), statistics: false, sha256: true, threads: 2)
        }
        let expected = try plain.scan(Array(plain.tensors), statistics: false, sha256: true, threads: 2)
        var refused = 0
        for (tensor, scan) in zip(plain.tensors, expected) {
            // Open the file again, so that nothing has been read from it yet.
            let packed = try Checkpoint.open(Repository.fixture("malformed-zstd/" + name))
            let same = try #require(packed.tensor(named: tensor.name))
            do {
                let found = try packed.scan([same], statistics: false, sha256: true, threads: 1)
                #expect(found[0].sha256 == scan.sha256, "\(tensor.name)")
            } catch {
                #expect(error.category == .malformed)
                refused += 1
            }
        }
        #expect(refused > 0)
    }

    /// Frames can be empty, and their sizes can come only from a seek table.
    @Test(arguments: [[0], [0, 0], [0, 1], [1], [0, 1, 2, 3]])
    func readsWhatEmptyFramesAndATableHold(empty: [Int]) throws {
        func number(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        // A frame with one raw block, whose header does not record the content size.
        func frame(_ content: [UInt8]) -> [UInt8] {
            number(0xFD2F_B528) + [0, 0] + number(content.count << 3 | 1).dropLast() + content
        }
        let content: [UInt8] = Array(1...80)
        var contents = [Array(content[..<30]), Array(content[30...])]
        for place in empty { contents.insert([], at: min(place, contents.count)) }
        let frames = contents.map(frame)
        let table =
            zip(frames, contents).flatMap { number($0.count) + number($1.count) } + number(frames.count) + [0]
            + number(0x8F92_EAB1)
        let file = frames.joined() + number(0x184D_2A5E) + number(table.count) + table
        for (place, count) in [(0, 80), (0, 1), (29, 2), (79, 1), (30, 50)] {
            let source = try ZstdSource(MemorySource(Array(file), path: "empty"), limits: .standard)
            #expect(try bytes(source, place, count) == Array(content[place..<place + count]))
            #expect(try bytes(source, 0, 80) == content)
            try source.finish()
        }
    }

    /// A source that counts the reads and the bytes that are read.
    private final class CountingSource: ByteSource {
        let counts = Mutex((reads: 0, bytes: 0))
        let path = "counted"
        let count: Int
        private let memory: MemorySource

        init(_ contents: [UInt8]) {
            memory = MemorySource(contents, path: path)
            count = contents.count
        }

        func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
            let size = buffer.byteCount
            counts.withLock { $0 = ($0.reads + 1, $0.bytes + size) }
            try memory.read(into: &buffer, at: offset)
        }
    }

    /// Returns a frame with raw blocks of zeros, whose header records the content size.
    private func frame(blocks: Int, of size: Int) -> [UInt8] {
        func number(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        let block = number(size << 3, 3) + [UInt8](repeating: 0, count: size)
        let blocks = [[UInt8]](repeating: block, count: blocks).joined()
        return number(0xFD2F_B528, 4) + [0xC0, 0x70] + number(blocks.count / (size + 3) * size, 8) + blocks + [1, 0, 0]
    }

    /// Block headers that are close together are read together, and long blocks between headers are not read.
    @Test(arguments: [(100_000, 0, 1000, 2_000_000), (100, 100_000, 1000, 100_000)]) func walksInFewReads(
        blocks: Int, size: Int, reads: Int, bytes: Int
    ) throws {
        let source = CountingSource(frame(blocks: blocks, of: size))
        #expect(try ZstdSource(source, limits: .standard).count == blocks * size)
        let counts = source.counts.withLock { $0 }
        #expect(counts.reads < reads && counts.bytes < bytes, "\(counts)")
    }

    @Test(
        arguments: [
            [0x28, 0xB5, 0x2F, 0xFD, 0, 0, 1, 0, 0], [0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 1, 0, 0],
            [0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0],
        ] as [[UInt8]]) func boundsTheNumberOfFrames(empty: [UInt8]) throws
    {
        func source(_ count: Int) throws -> ZstdSource {
            let frames = Array([[UInt8]](repeating: empty, count: count).joined())
            return try ZstdSource(MemorySource(frame(blocks: 1, of: 1000) + frames, path: "many"), limits: .standard)
        }
        #expect(throws: CheckpointError.self) { try source(ReadLimits.standard.zstdFrames) }
        let most = try source(ReadLimits.standard.zstdFrames - 1)
        #expect(try bytes(most, 0, 1000) == [UInt8](repeating: 0, count: 1000))
    }

    /// A compressed PyTorch file with long frames is unpacked to a temporary file that leaves nothing in the directory.
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
