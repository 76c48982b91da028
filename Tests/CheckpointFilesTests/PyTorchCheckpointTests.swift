import Bytes
import CheckpointFiles
import Foundation
import TestSupport
import Testing

/// Compares the tensors that the library reads from files written by torch.save with the tensors that torch reads.
@Suite struct PyTorchCheckpointTests {
    private static let expected = Result { try ExpectedPyTorch.load() }
    private static let paths = (try? expected.get().checkpoints.keys.sorted()) ?? []

    @Test func knowsEveryFixture() throws {
        let directory = URL(filePath: Repository.fixture("pytorch"))
        let files = try FileManager.default.contentsOfDirectory(atPath: directory.path()).filter {
            $0 != "expected.json"
        }
        #expect(files.sorted() == Self.paths && Self.paths.count >= 20)
    }

    @Test(arguments: paths) func listsWhatWasWritten(path: String) throws {
        let expected = try #require(try Self.expected.get().checkpoints[path])
        let checkpoint = try Checkpoint.open(Repository.fixture("pytorch/" + path))
        #expect(checkpoint.warnings.count == (path == "no-checksums.pth" ? 1 : 0))
        try check(checkpoint, expected.tensors)
        #expect(checkpoint.tiedTensors.map { $0.sorted() }.sorted { $0[0] < $1[0] } == expected.tied)
        #expect(checkpoint.otherTensors.map { "\($0.name): \($0.kind)" }.sorted() == expected.others)
        #expect(checkpoint.danger == nil)
        let starts = checkpoint.tensors.map(\.byteRange.lowerBound)
        #expect(starts == starts.sorted())
    }

    private func check(_ checkpoint: Checkpoint, _ expected: [ExpectedPyTorch.Tensor]) throws {
        #expect(checkpoint.tensorCount == expected.count)
        let tensors = try expected.map { try #require(checkpoint.tensor(named: $0.name), "\($0.name)") }
        for threads in [1, 3] {
            let scans = try checkpoint.scan(tensors, statistics: true, sha256: true, threads: threads)
            for ((row, tensor), scan) in zip(zip(expected, tensors), scans) {
                #expect(Array(tensor.name.utf8) == Array(row.name.utf8))
                #expect(tensor.dtype.rawValue == row.dtype, "\(row.name)")
                #expect(tensor.shape == row.shape, "\(row.name)")
                #expect(tensor.elementCount == row.shape.reduce(1, *), "\(row.name)")
                let sha256 = try #require(scan.sha256)
                #expect(
                    sha256.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() == row.sha256,
                    "\(row.name)")
            }
        }
    }

    @Test func readsRecordsBeyondFourGigabytes() throws {
        let sparse = try #require(try Self.expected.get().sparse["over-4-gib.pth"])
        try withTemporaryDirectory { directory in
            let file = directory.appending(path: "over-4-gib.pth")
            try sparse.write(to: file)
            let checkpoint = try Checkpoint.open(file.path(percentEncoded: false))
            // Hashing the hole would take seconds, so check only the shape and size of its tensor.
            try check(checkpoint, sparse.tensors.filter { $0.name != "zeros" }, of: sparse.tensors.count)
            let zeros = try #require(checkpoint.tensor(named: "zeros"))
            #expect(zeros.shape == [1 << 30 + 1 << 20] && zeros.byteRange.count > 1 << 32)
        }
    }

    private func check(_ checkpoint: Checkpoint, _ expected: [ExpectedPyTorch.Tensor], of count: Int) throws {
        #expect(checkpoint.tensorCount == count)
        for row in expected {
            let tensor = try #require(checkpoint.tensor(named: row.name))
            #expect(tensor.dtype.rawValue == row.dtype && tensor.shape == row.shape)
            let scan = try checkpoint.scan([tensor], statistics: false, sha256: true, threads: 1)[0]
            let sha256 = try #require(scan.sha256)
            #expect(sha256.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() == row.sha256)
        }
    }

    @Test func givesTheSameBytesInAnyParts() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("pytorch/views.pth"))
        for tensor in checkpoint.tensors where tensor.byteCount > 0 && tensor.byteCount < 10_000 {
            let whole = try bytes(checkpoint, tensor, 0, tensor.byteCount)
            let size = tensor.byteCount / tensor.elementCount
            for part in [1, 3, 7, 16] {
                var joined: [UInt8] = []
                for start in stride(from: 0, to: tensor.byteCount, by: part * size) {
                    joined += try bytes(checkpoint, tensor, start, min(part * size, tensor.byteCount - start))
                }
                #expect(joined == whole, "\(tensor.name) in parts of \(part)")
            }
        }
    }

    private func bytes(_ checkpoint: Checkpoint, _ tensor: TensorInfo, _ start: Int, _ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try checkpoint.read(tensor, at: start, into: &raw)
        return bytes
    }

    @Test(arguments: [
        ("storage-packed", ["w"], "q", "quantised tensor (torch.per_tensor_affine)"),
        ("storage-class-unknown", [], "w", "tensor of an unknown type"),
        ("storage-class-unknown-shared", ["b"], "a", "tensor of an unknown type"),
    ]) func saysWhatItCannotRead(file: String, listed: [String], other: String, kind: String) throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("malformed-pytorch/" + file))
        #expect(checkpoint.tensors.map(\.name) == listed)
        #expect(checkpoint.otherTensors.map(\.name) == [other] && checkpoint.otherTensors.map(\.kind) == [kind])
        #expect(checkpoint.otherTensors.allSatisfy { !$0.isListed })
    }

    /// Keys have the same meaning as in Python: MEMOIZE uses the number of memo entries as the index, and the bytes of
    /// a text line are Latin-1.
    @Test func takesKeysForWhatPythonTakesThemFor() throws {
        let gap = try Checkpoint.open(Repository.fixture("malformed-pytorch/memo-gap"))
        #expect(gap.tensors.map(\.name) == ["beta"])
        let line = try Checkpoint.open(Repository.fixture("malformed-pytorch/text-line-latin-1"))
        #expect(line.tensors.isEmpty && line.otherTensors.map(\.name) == ["?"])
    }

    @Test func sharesItsMemoryAmongFiles() throws {
        try withTemporaryDirectory { directory in
            for name in ["a.bin", "b.bin"] {
                try FileManager.default.copyItem(
                    at: URL(filePath: Repository.fixture("malformed-pytorch/good")), to: directory.appending(path: name)
                )
            }
            let index = directory.appending(path: "pytorch_model.bin.index.json")
            try Data(#"{"weight_map": {"w": "a.bin", "v": "b.bin"}}"#.utf8).write(to: index)
            func open(_ file: URL, _ memory: Int) throws(CheckpointError) -> Checkpoint {
                var limits = ReadLimits.standard
                limits.pickleMemoryBytes = memory
                return try Checkpoint.open(file.path(percentEncoded: false), limits: limits)
            }
            let file = directory.appending(path: "a.bin")
            let enough = try #require(stride(from: 0, to: 20_000, by: 20).first { (try? open(file, $0)) != nil })
            #expect(enough > 500)
            // With twice the memory, both files can be read, and the error is that they contain the same tensor.
            for (memory, words) in [(enough, "than the limit allows"), (2 * enough, "the tensor is")] {
                let error = #expect(throws: CheckpointError.self) { try open(index, memory) }
                #expect(error?.description.contains(words) == true, "\(memory): \(String(describing: error))")
            }
        }
    }

    @Test func keepsForeignClassesAsLabels() throws {
        let checkpoint = try Checkpoint.open(Repository.fixture("pytorch/lightning.ckpt"))
        let unknown = checkpoint.globals.filter { $0.kind == .unknown }.map(\.name)
        #expect(unknown == ["functools.partial"])
        #expect(checkpoint.globals.contains { $0.name == "argparse.Namespace" && $0.kind == .known })
    }

    /// Returns a legacy file with sparse tensors that have the names `tensors` and globals that have the names
    /// `classes`.
    private func legacyFile(tensors: [String], tensorClass: String? = nil, classes: [String]) -> [UInt8] {
        func text(_ text: String) -> [UInt8] { [0x58, UInt8(text.utf8.count), 0, 0, 0] + text.utf8 }
        var members: [UInt8] = []
        let sparse = "ctorch._utils\n_rebuild_sparse_tensor\n"
        let made =
            tensorClass.map { "ctorch._tensor\n_rebuild_from_type_v2\n(\(sparse)cmodels\n\($0)\n)}tR" } ?? sparse + ")R"
        for name in tensors { members += text(name) + made.utf8 }
        for (number, name) in classes.enumerated() { members += text("class \(number)") + "cmodels\n\(name)\n".utf8 }
        let start: [UInt8] = [0x80, 2]
        let magic: [UInt8] = [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E]
        let machine: [UInt8] = [0x7D, 0x28] + text("little_endian") + [0x88, 0x75, 0x2E]
        return start + magic + start + [0x4D, 0xE9, 3, 0x2E] + start + machine + start + [0x7D, 0x28] + members
            + [0x75, 0x2E] + start + [0x5D, 0x2E]
    }

    /// Tensors and globals remain distinct if their names differ only in Unicode normalisation.
    @Test func keepsApartWhatDiffersByNormalisationAlone() throws {
        let (nfc, nfd) = ("caf\u{E9}", "cafe\u{301}")
        try withTemporaryDirectory { directory in
            func checkpoint(_ tensors: [String], _ classes: [String]) throws -> Checkpoint {
                let path = directory.appending(path: "\(tensors.count)\(classes.count)\(tensors[0].utf8.count)")
                try Data(legacyFile(tensors: tensors, classes: classes)).write(to: path)
                return try Checkpoint.open(path.path(percentEncoded: false))
            }
            func classed(_ name: String) throws -> Checkpoint {
                let path = directory.appending(path: "class\(name.utf8.count)")
                try Data(legacyFile(tensors: ["x"], tensorClass: name, classes: [])).write(to: path)
                return try Checkpoint.open(path.path(percentEncoded: false))
            }
            let both = try checkpoint([nfc, nfd], [nfc, nfd])
            let globals = both.globals.map { Array($0.name.utf8) }
            #expect(
                globals
                    == ["models.\(nfd)", "models.\(nfc)", "torch._utils._rebuild_sparse_tensor"].map { Array($0.utf8) })
            #expect(both.otherTensors.map { Array($0.name.utf8) } == [nfc, nfd].map { Array($0.utf8) })
            let same = CheckpointDifference(from: both, to: try checkpoint([nfd, nfc], []))
            #expect(same.isEmpty && same.uncomparedOthers.map { Array($0.utf8) } == [nfd, nfc].map { Array($0.utf8) })
            let other = CheckpointDifference(from: try checkpoint([nfc], []), to: try checkpoint([nfd], []))
            #expect(other.differingOthers.map { Array($0.utf8) } == [nfd, nfc].map { Array($0.utf8) })
            let (a, b) = try (classed(nfc), classed(nfd))
            #expect(CheckpointDifference(from: a, to: b).differingOthers == ["x"])
            #expect(CheckpointDifference(from: a, to: a).differingOthers.isEmpty)
        }
    }
}
