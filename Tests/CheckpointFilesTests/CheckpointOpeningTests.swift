import Bytes
import CheckpointFiles
import Foundation
import Synchronization
import TestSupport
import Testing

@Suite struct CheckpointOpeningTests {
    /// Returns a safetensors file with `count` one-byte tensors, which are named `t0`, `t1` and so on.
    private func file(_ count: Int = 1) -> Data {
        let header =
            "{"
            + (0..<count).map { #""t\#($0)":{"dtype":"U8","shape":[1],"data_offsets":[\#($0),\#($0 + 1)]}"# }
            .joined(separator: ",") + "}"
        return withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) } + Data(header.utf8)
            + Data(count: count)
    }

    private func error(opening path: String) throws -> CheckpointError {
        try #require(#expect(throws: CheckpointError.self) { _ = try Checkpoint.open(path) })
    }

    @Test func prefersTheIndexInADirectory() throws {
        try withTemporaryDirectory { directory in
            try file(2).write(to: directory.appending(path: "model.safetensors"))
            try file(1).write(to: directory.appending(path: "part.safetensors"))
            #expect(try Checkpoint.open(directory.path(percentEncoded: false)).tensorCount == 2)
            try Data(#"{"weight_map":{"t0":"part.safetensors"}}"#.utf8)
                .write(to: directory.appending(path: "model.safetensors.index.json"))
            #expect(try Checkpoint.open(directory.path(percentEncoded: false)).tensorCount == 1)
        }
    }

    /// Tensors and shards remain distinct if their names differ only in Unicode normalisation.
    @Test func keepsApartWhatDiffersByNormalisationAlone() throws {
        let names = ["caf\u{E9}", "cafe\u{301}"]
        try withTemporaryDirectory { directory in
            for (number, name) in names.enumerated() {
                try writeSafetensors(
                    header:
                        #"{"__metadata__":{"\#(name)":""},"\#(name)":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                    data: Data([UInt8(number)]), to: directory.appending(path: "\(name).safetensors"))
            }
            let index = directory.appending(path: "model.safetensors.index.json")
            func write(_ pairs: [(String, String)]) throws {
                let map = pairs.map { #""\#($0)":"\#($1).safetensors""# }.joined(separator: ",")
                try Data(#"{"weight_map":{\#(map)}}"#.utf8).write(to: index)
            }
            try write(names.map { ($0, $0) })
            let path = index.path(percentEncoded: false)
            let checkpoint = try Checkpoint.open(path)
            #expect(checkpoint.files.count == 2 && checkpoint.warnings.isEmpty && checkpoint.metadata.count == 2)
            #expect(names.map { checkpoint.tensor(named: $0)?.file } == [0, 1])
            try write([(names[0], names[1]), (names[1], names[0])])
            let swapped = try error(opening: path)
            #expect(swapped.category == .malformed && swapped.problem.contains("the index places the tensor in"))
            try write(names.map { ($0, $0) } + [(names[0], names[0])])
            #expect(try error(opening: path).problem == "the tensor is listed twice")
        }
    }

    @Test func readsEveryMemberOfAnIndexOnce() throws {
        try withTemporaryDirectory { directory in
            try file().write(to: directory.appending(path: "part.safetensors"))
            let index = directory.appending(path: "model.safetensors.index.json")
            let path = index.path(percentEncoded: false)
            func write(_ members: String) throws {
                try Data(#"{"weight_map":{"t0":"part.safetensors"},\#(members)}"#.utf8).write(to: index)
            }
            for (members, offset) in [
                (#""weight_map":{}"#, 40), (#""metadata":{},"metadata":{}"#, 54), (#""x":1,"\u0078":2"#, 46),
                (#""metadata":{"total_size":1,"total_size":2}"#, 67), (#""metadata":{"x":1,"x":1}"#, 58),
            ] {
                try write(members)
                let found = try error(opening: path)
                #expect(found.problem.hasSuffix(" appears twice") && found.offset == offset, "\(found)")
            }
            for (size, count) in [("1", 0), ("1.0", 0), ("2", 1), ("18446744073709551615", 1)] {
                try write(#""metadata":{"total_size":\#(size)}"#)
                #expect(try Checkpoint.open(path).warnings.count == count, "\(size)")
            }
        }
    }

    @Test func saysWhatADirectoryHoldsInstead() throws {
        try withTemporaryDirectory { directory in
            try file().write(to: directory.appending(path: "rwkv.safetensors"))
            let error = try error(opening: directory.path(percentEncoded: false))
            #expect(error.category == .notFound)
            #expect(error.advice?.contains("rwkv.safetensors") == true)
        }
    }

    @Test func goesByContentNotByName() throws {
        try withTemporaryDirectory { directory in
            let blob = directory.appending(path: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            try file(3).write(to: blob)
            #expect(try Checkpoint.open(blob.path(percentEncoded: false)).tensorCount == 3)
        }
    }

    @Test func refusesWhatIsNoRegularFile() throws {
        try withTemporaryDirectory { directory in
            let pipe = directory.appending(path: "pipe").path(percentEncoded: false)
            #expect(mkfifo(pipe, 0o600) == 0)
            let categories = try [pipe, "/dev/zero", pipe + "x"].map { try error(opening: $0).category }
            #expect(categories == [.unsupported, .unsupported, .notFound])
        }
    }

    @Test func noticesAFileThatShrinks() throws {
        try withTemporaryDirectory { directory in
            let url = directory.appending(path: "model.safetensors")
            try file(2).write(to: url)
            let checkpoint = try Checkpoint.open(url.path(percentEncoded: false))
            let handle = try FileHandle(forWritingTo: url)
            try handle.truncate(atOffset: UInt64(file(2).count - 1))
            let error = #expect(throws: CheckpointError.self) {
                _ = try checkpoint.scan(Array(checkpoint.tensors), statistics: true, sha256: false, threads: 2)
            }
            #expect(error?.category == .inputOutput)
        }
    }

    @Test func stopsWhenAskedTo() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("safetensors/thousands.safetensors"))
        let progress = WorkProgress()
        progress.cancel()
        let error = #expect(throws: CheckpointError.self) {
            _ = try checkpoint.scan(
                Array(checkpoint.tensors), statistics: true, sha256: true, threads: 2, progress: progress)
        }
        #expect(error?.category == .cancelled)
    }

    @Test func reportsEveryByte() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("safetensors/qwen3-sharded"))
        let largest = Atomic<Int>(0)
        let tensors = Array(checkpoint.tensors)
        let total = tensors.reduce(0) { $0 + $1.byteRange.count }
        _ = try checkpoint.scan(
            tensors, statistics: true, sha256: false, threads: 2,
            progress: WorkProgress { done, all in
                #expect(all == total)
                largest.max(done, ordering: .relaxed)
            })
        #expect(largest.load(ordering: .relaxed) == total)
    }

    /// The statistics of consecutive numbers are correct, even if the numbers span several buffers and pieces.
    @Test(arguments: [300_001, 9_000_001]) func joinsWhatTheBuffersFind(count: Int) throws {
        try withTemporaryDirectory { directory in
            let header = #"{"w":{"dtype":"F32","shape":[\#(count)],"data_offsets":[0,\#(count * 4)]}}"#
            let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
            let values = (0..<count).map { Float($0) }
            let url = directory.appending(path: "w")
            try (length + Data(header.utf8) + values.withUnsafeBytes { Data($0) }).write(to: url)
            let checkpoint = try Checkpoint.open(url.path(percentEncoded: false))
            let scans = try checkpoint.scan(Array(checkpoint.tensors), statistics: true, sha256: false, threads: 2)
            let statistics = try #require(scans[0].statistics)
            let n = Double(count)
            #expect(statistics.minimum == 0 && statistics.maximum == n - 1 && statistics.zeros == 1)
            #expect(abs(try #require(statistics.mean) - (n - 1) / 2) < 1e-12 * n)
            #expect(abs(try #require(statistics.standardDeviation) - ((n * n - 1) / 12).squareRoot()) < 1e-12 * n)
        }
    }

    /// The statistics of a tensor in several pieces do not depend on the number of threads or on whether the tensor is
    /// hashed.
    ///
    /// The last piece has an odd length.
    @Test func measuresTheSameWithAnyNumberOfThreads() throws {
        try withTemporaryDirectory { directory in
            let count = 40_000_007
            let header = #"{"w":{"dtype":"BF16","shape":[\#(count)],"data_offsets":[0,\#(count * 2)]}}"#
            var generator = SystemRandomNumberGenerator()
            var block = Data()
            while block.count < 1 << 20 {
                withUnsafeBytes(of: generator.next() as UInt64) { block.append(contentsOf: $0) }
            }
            var data = Data(repeating: 0, count: 0)
            while data.count < count * 2 { data.append(block) }
            let url = directory.appending(path: "w")
            let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
            try (length + Data(header.utf8) + data.prefix(count * 2)).write(to: url)
            let checkpoint = try Checkpoint.open(url.path(percentEncoded: false))
            let tensors = Array(checkpoint.tensors)
            let one = try checkpoint.scan(tensors, statistics: true, sha256: false, threads: 1)[0].statistics
            #expect(one != nil)
            for threads in [2, 5] {
                for hash in [false, true] {
                    let many = try checkpoint.scan(tensors, statistics: true, sha256: hash, threads: threads)[0]
                        .statistics
                    #expect(many == one)
                }
            }
        }
    }

    /// Statistics that overflow double precision are nil, not zero.
    @Test(
        arguments: [
            ([1e200, 2e200], 1.5e200, nil), ([1e308, -1e308], nil, nil),
            (Array(repeating: Double.nan, count: 65_536) + [1e200, 1e200, 1e200, 1e200], 1e200, 0),
            (Array(repeating: Double.nan, count: 65_536) + [2, 4], 3, 1),
        ] as [([Double], Double?, Double?)]) func admitsOverflow(values: [Double], mean: Double?, deviation: Double?)
        throws
    {
        try withTemporaryDirectory { directory in
            let header =
                #"{"w":{"dtype":"F64","shape":[\#(values.count)],"data_offsets":[0,\#(values.count * 8)]}}"#
            let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
            let url = directory.appending(path: "w")
            try (length + Data(header.utf8) + values.withUnsafeBytes { Data($0) }).write(to: url)
            let checkpoint = try Checkpoint.open(url.path(percentEncoded: false))
            let scans = try checkpoint.scan(Array(checkpoint.tensors), statistics: true, sha256: false, threads: 1)
            let statistics = try #require(scans[0].statistics)
            #expect(statistics.mean == mean && statistics.standardDeviation == deviation, "\(statistics)")
            #expect(statistics.maximum == values.filter(\.isFinite).max())
        }
    }
}
