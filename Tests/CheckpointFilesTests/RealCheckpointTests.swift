import CheckpointFiles
import TestSupport
import Testing

/// Compares the tensors that the library reads from files written by common libraries with the tensors that those
/// libraries read.
@Suite struct RealCheckpointTests {
    private static let expected = Result { try ExpectedCheckpoints.load() }

    private static let paths = [
        "every-dtype.safetensors", "odd-names.safetensors", "metadata.safetensors", "no-tensors.safetensors",
        "thousands.safetensors", "qwen3-sharded", "hub-cache/snapshots/0123abcd",
    ]

    @Test func knowsEveryFixture() throws {
        #expect(Set(try Self.expected.get().checkpoints.keys) == Set(Self.paths))
    }

    @Test(arguments: paths) func listsWhatWasWritten(path: String) throws {
        let expected = try #require(try Self.expected.get().checkpoints[path])
        let checkpoint = try Checkpoint.open(Repository.fixture("safetensors/" + path))
        #expect(checkpoint.warnings.isEmpty)
        #expect(checkpoint.tensorCount == expected.tensors.count)
        #expect(
            Dictionary(uniqueKeysWithValues: checkpoint.metadata.map { (Array("\($0.key)".utf8), $0.value) })
                == Dictionary(uniqueKeysWithValues: expected.metadata.map { (Array($0.key.utf8), $0.value) }))

        let tensors = Array(checkpoint.tensors)
        let names = Set(tensors.map { Array($0.name.utf8) })
        #expect(names == Set(expected.tensors.map { Array($0.name.utf8) }))
        for row in expected.tensors {
            let tensor = try #require(checkpoint.tensor(named: row.name), "\(row.name)")
            #expect(Array(tensor.name.utf8) == Array(row.name.utf8))
            #expect(tensor.dtype.rawValue == row.dtype)
            #expect(tensor.shape == row.shape)
            #expect(tensor.elementCount == row.shape.reduce(1, *))
        }
    }

    @Test(arguments: paths, [1, 3]) func hashesAndMeasuresWhatWasWritten(path: String, threads: Int) throws {
        let expected = try #require(try Self.expected.get().checkpoints[path])
        let checkpoint = try Checkpoint.open(Repository.fixture("safetensors/" + path))
        let tensors = try expected.tensors.map { try #require(checkpoint.tensor(named: $0.name)) }
        let scans = try checkpoint.scan(tensors, statistics: true, sha256: true, threads: threads)
        #expect(scans.count == tensors.count)
        for (row, scan) in zip(expected.tensors, scans) {
            #expect(
                try #require(scan.sha256).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
                    == row.sha256)
            guard let wanted = row.stats, let found = scan.statistics else {
                #expect((row.stats == nil) == (scan.statistics == nil), "\(row.name)")
                continue
            }
            #expect(found.minimum == wanted.min, "\(row.name)")
            #expect(found.maximum == wanted.max, "\(row.name)")
            let scale = max(abs(wanted.min ?? 0), abs(wanted.max ?? 0))
            #expect(isClose(found.mean, wanted.mean, scale), "\(row.name)")
            #expect(isClose(found.standardDeviation, wanted.std, scale), "\(row.name)")
            #expect(
                found.zeros == wanted.zeros && found.nans == wanted.nan && found.infinities == wanted.inf, "\(row.name)"
            )
        }
    }

    private func isClose(_ a: Double?, _ b: Double?, _ scale: Double) -> Bool {
        guard let a, let b else { return a == nil && b == nil }
        return abs(a - b) <= 1e-13 * scale
    }

    @Test func readsAnyPartOfATensor() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("safetensors/thousands.safetensors"))
        let tensor = try #require(checkpoint.tensor(named: "model.layers.2.block.37.weight"))
        var bytes = [UInt8](repeating: 0, count: 4)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try checkpoint.read(tensor, at: 4, into: &raw)
        #expect(bytes == withUnsafeBytes(of: Float(137)) { Array($0) })
    }

    @Test func tellsNamesApartThatOnlyLookAlike() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("safetensors/odd-names.safetensors"))
        let composed = try #require(checkpoint.tensor(named: "na\u{EF}ve"))
        let decomposed = try #require(checkpoint.tensor(named: "nai\u{308}ve"))
        #expect(composed.byteRange != decomposed.byteRange)
        #expect(checkpoint.tensor(named: "naive") == nil)
    }
}
