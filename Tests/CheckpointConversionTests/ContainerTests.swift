import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import Foundation
import ModelFamilies
import TestSupport
import Testing

@Suite struct ContainerTests {
    private struct Shards: Decodable {
        let max_shard_size: String
        let files: [String: String]
        let index: String?
    }

    @Test func areShardedAsTransformersDoes() throws {
        let all = try Repository.json("conversions/shards.json", as: [String: Shards].self)
        #expect(all.count == 4)
        for (name, expected) in all {
            try withTemporaryDirectory { directory in
                let target = directory.appending(path: "out")
                let units = ["KB": 1000, "GB": 1_000_000_000]
                let size =
                    try #require(Int(expected.max_shard_size.dropLast(2)))
                    * units[String(expected.max_shard_size.suffix(2)), default: 0]
                try Conversion(of: input("models/\(name)"), options: .directory(target, shardByteCount: size)).run()
                for (file, hash) in expected.files {
                    let bytes = try Data(contentsOf: target.appending(path: file))
                    #expect(sha256(of: Array(bytes)) == hash, "\(name) \(file)")
                }
                let index = try? String(
                    contentsOf: target.appending(path: "model.safetensors.index.json"), encoding: .utf8)
                #expect(index == expected.index)
            }
        }
    }

    @Test func refuseMoreBytesThanAFileHas() throws {
        let tensors = try (0..<9).map { try OutputTensor(name: "\($0)", dtype: .u8, shape: [1 << 59]) }
        for container in [CheckpointByteLayout.Container.safetensors, .pyTorch] {
            #expect(failure { _ = try CheckpointByteLayout(tensors, container: container, name: "x") } != nil)
        }
        #expect(failure { _ = try CheckpointByteLayout(tensors + tensors, shardByteCount: .max) } != nil)
    }

    /// Converts every dtype from one container to the other and back, and through compressed files.
    @Test func holdEveryDTypeThatBothHave() throws {
        for path in [
            "safetensors/every-dtype.safetensors", "pytorch/every-dtype.pth", "pytorch/views.pth",
            "pytorch/thousands.pth", "safetensors/odd-names.safetensors",
        ] {
            let source = try input(path)
            let isOfBoth = { (type: DType) in
                type.isInSafetensors && ![.f6E2M3, .f6E3M2].contains(type)
            }
            let names = source.checkpoint.tensors.filter { !isOfBoth($0.dtype) }.map(\.name)
            var contents = try source.checkpoint.contents()
            for (name, container) in [
                ("x.safetensors", CheckpointByteLayout.Container.safetensors), ("x.pth", .pyTorch),
            ] {
                try withTemporaryDirectory { directory in
                    let outcome = failure {
                        try Conversion(of: source, options: .file(directory.appending(path: name), container)).run()
                    }
                    // If a container cannot store a tensor, the error names the tensor, and nothing is written.
                    let unable = source.checkpoint.tensors.filter { tensor in
                        container == .safetensors
                            ? !tensor.dtype.isInSafetensors
                            : [.f6E2M3, .f6E3M2, .qi8, .qu8, .qi32].contains(tensor.dtype)
                    }
                    if unable.isEmpty {
                        #expect(outcome == nil, "\(path) \(name)")
                        let made = try Checkpoint.open(directory.appending(path: name).path(percentEncoded: false))
                        #expect(try made.contents().filter { contents[$0.key] != nil } == contents)
                    } else {
                        #expect(
                            outcome?.category == .unsupported
                                && outcome.map { e in unable.contains { $0.name == e.tensor } } == true)
                        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
                    }
                }
            }
            // All other dtypes are unchanged by conversion to the other container and back.
            contents = contents.filter { !names.contains($0.key) }
            guard names.isEmpty else { continue }
            try withTemporaryDirectory { directory in
                var source = source
                for (name, container) in [
                    ("a.pth.zst", CheckpointByteLayout.Container.pyTorch), ("b.safetensors.zst", .safetensors),
                    ("c.pth", .pyTorch),
                    ("d.safetensors", .safetensors),
                ] {
                    let target = directory.appending(path: name)
                    try Conversion(of: source, options: .file(target, container, isCompressed: name.hasSuffix("zst")))
                        .run()
                    source = try input(target.path(percentEncoded: false))
                    #expect(try source.checkpoint.contents() == contents, "\(path) \(name)")
                }
            }
        }
    }

    @Test func keepWhatIsTiedTied() throws {
        let source = try input("pytorch/tied.pth")
        let contents = try source.checkpoint.contents()
        try withTemporaryDirectory { directory in
            let plain = directory.appending(path: "x.safetensors")
            let made = try Conversion(of: source, options: .file(plain, .safetensors)).run()
            #expect(made.tensorCount == 4)
            #expect(made.metadata["same object"] == "object")
            for file in ["back.pth", "again.safetensors"] {
                let back = try Conversion(
                    of: input(plain.path(percentEncoded: false)),
                    options: .file(directory.appending(path: file), file == "back.pth" ? .pyTorch : .safetensors)
                ).run()
                if file == "back.pth" {
                    #expect(try back.contents() == contents)
                    #expect(Set(back.tiedTensors.map { Set($0) }) == Set(source.checkpoint.tiedTensors.map { Set($0) }))
                } else {
                    #expect(try Data(contentsOf: directory.appending(path: file)) == Data(contentsOf: plain))
                }
            }
        }
    }

    /// Directories record all names of tied tensors, as files do.
    ///
    /// Files keep their metadata.
    @Test func noteNamesInDirectoriesToo() throws {
        let source = try input("pytorch/tied.pth")
        try withTemporaryDirectory { directory in
            let target = directory.appending(path: "x")
            let made = try Conversion(of: source, options: .directory(target, shardByteCount: 600)).run()
            #expect(made.tensorCount == 4 && made.files.count == 4)
            let back = try Conversion(
                of: input(target.path(percentEncoded: false)),
                options: .file(directory.appending(path: "y.pth"), .pyTorch)
            ).run()
            #expect(try back.contents() == source.checkpoint.contents())
            let accounts = try JSONValue(contentsOf: target.path(percentEncoded: false) + "/conversion.json")
            let shared = accounts["tensors"]?.array?.compactMap { $0["shared_with"]?.string }
            #expect(shared?.sorted() == ["module.embedding.weight", "object", "object"])
            #expect(accounts["totals"]?["output"]?["bytes"]?.integer == made.tensors.reduce(0) { $0 + $1.byteCount })

            let said = try Conversion(
                of: input("safetensors/metadata.safetensors"),
                options: .file(directory.appending(path: "z.safetensors"), .safetensors)
            ).run()
            for (key, value) in try Checkpoint.open(Repository.fixture("safetensors/metadata.safetensors")).metadata {
                #expect(said.metadata[key] == value)
            }
        }
    }

    /// Keys, names and values that differ only by Unicode normalisation are kept byte for byte.
    @Test func keepWhatDiffersByNormalisationAlone() throws {
        let (nfc, nfd) = ("caf\u{E9}", "cafe\u{301}")
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "x.safetensors")
            let pairs = [(nfd, "2"), (nfc, "3"), ("z", nfd), ("y", nfc)]
            let said = pairs.map { "\"\($0)\":\"\($1)\"" }.joined(separator: ",")
            try writeSafetensors(
                header: """
                    {"__metadata__":{\(said),"format":"pt"},"t.\(nfd)":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},\
                    "t.\(nfc)":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}
                    """, data: Data([1, 2]), to: path)
            let source = try input(path.path(percentEncoded: false))
            func bytes(_ checkpoint: Checkpoint) -> [[[UInt8]]] {
                checkpoint.metadata.map { key, value in [Array("\(key)".utf8), Array(value.utf8)] }
                    .sorted { $0[0].lexicographicallyPrecedes($1[0]) }
            }
            let expected = [(nfd, "2"), (nfc, "3"), ("format", "pt"), ("y", nfc), ("z", nfd)].map {
                [Array($0.utf8), Array($1.utf8)]
            }
            #expect(bytes(source.checkpoint) == expected)
            for (number, options) in [
                ConversionOptions.file(directory.appending(path: "a.safetensors"), .safetensors),
                .file(directory.appending(path: "b.safetensors.zst"), .safetensors, isCompressed: true),
                .directory(directory.appending(path: "c"), shardByteCount: 1),
                .file(directory.appending(path: "d.pth"), .pyTorch),
            ].enumerated() {
                let conversion = try Conversion(of: source, options: options)
                // A PyTorch file cannot contain metadata, so all keys are reported as omitted.
                let omitted = number < 3 ? [] : ["cafe\u{301}", "caf\u{E9}", "y", "z"] as [ByteString]
                #expect(conversion.omittedMetadata == omitted)
                let made = try conversion.run()
                #expect(bytes(made) == (number < 3 ? expected : []), "\(number)")
                #expect(made.tensor(named: "t.\(nfc)")?.byteCount == 1 && made.tensorCount == 2)
                #expect(try made.contents() == source.checkpoint.contents())
            }
        }
    }

    /// Omitting the default format "pt" is not reported, but omitting any other format is.
    @Test(arguments: [("pt", []), ("flax", ["format"])] as [(String, [ByteString])])
    func tellWhichFormatIsOmitted(format: String, omitted: [ByteString]) throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "x.safetensors")
            try writeSafetensors(
                header:
                    #"{"__metadata__":{"format":"\#(format)"},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                data: Data([1]), to: path)
            let source = try input(path.path(percentEncoded: false))
            let conversion = try Conversion(of: source, options: .file(directory.appending(path: "x.pth"), .pyTorch))
            #expect(conversion.omittedMetadata == omitted)
        }
    }

    /// Tied names that differ only by Unicode normalisation are recorded separately.
    @Test func noteTiedNamesThatDifferByNormalisationAlone() throws {
        let (nfc, nfd) = ("caf\u{E9}", "cafe\u{301}")
        let outputs = try ["a", nfc, nfd].enumerated().map { number, name in
            try OutputTensor(name: name, dtype: .u8, shape: [0], sharedWith: number == 0 ? nil : 0)
        }
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "x.safetensors").path(percentEncoded: false)
            let file = try UnfinishedFile(path: path, replaces: false)
            let writer = try CheckpointWriter(
                CheckpointByteLayout(outputs, container: .safetensors, name: "x"), into: file, isCompressed: false)
            _ = try writer.begin(0).finish()
            try writer.finish()
            try file.commit()
            let noted = try Checkpoint.open(path).metadata.filter { $0.value == "a" }
            #expect(noted.count == 2)
            let back = try Conversion(
                of: input(path), options: .file(directory.appending(path: "y.pth"), .pyTorch)
            ).run()
            #expect(back.tensorCount == 3)
        }
    }

    @Test func refuseWhatTheyCannotHold() throws {
        try withTemporaryDirectory { directory in
            let quarters = directory.appending(path: "quarters.safetensors")
            try writeSafetensors(
                header: #"{"z":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}}"#, data: Data([1, 2, 3]), to: quarters
            )
            let odd = failure {
                _ = try Conversion(
                    of: input(quarters.path(percentEncoded: false)),
                    options: .file(directory.appending(path: "x.pth"), .pyTorch))
            }
            #expect(odd?.category == .unsupported && odd?.tensor == "z")
            let many = failure {
                _ = try Conversion(
                    of: input("pytorch/thousands.pth"),
                    options: .directory(directory.appending(path: "x"), shardByteCount: 1))
            }
            #expect(many?.problem == "the checkpoint would have more shards than this library reads")
        }
    }

    @Test func areCutIntoFramesAtTensors() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "x.safetensors")
            // Small tensors are in one frame, large ones in several.
            try writeSafetensors(
                [("a", [1000]), ("b", [3, 1_000_000]), ("c", [5_000_001]), ("d", [10])], to: path)
            let source = try input(path.path(percentEncoded: false))
            for (name, container) in [
                ("y.safetensors.zst", CheckpointByteLayout.Container.safetensors), ("y.pth.zst", .pyTorch),
            ] {
                let packed = try Conversion(
                    of: source, options: .file(directory.appending(path: name), container, isCompressed: true)
                ).run()
                #expect(try packed.contents() == source.checkpoint.contents())
                let size =
                    try FileManager.default.attributesOfItem(atPath: directory.appending(path: name).path)[.size]
                    as? Int
                #expect(try #require(size) < 100_000)
                // The files allow random access from several threads.
                #expect(packed.files.allSatisfy { !$0.source.isSequential })
            }
        }
    }

    @Test func haveTypesByRole() throws {
        try withTemporaryDirectory { directory in
            let options = ConversionOptions.directory(directory.appending(path: "x")).with {
                $0.dtype = .f16
                for role in TensorRole.all where role.rawValue.hasPrefix("decay.") { $0.roleDTypes[role] = .f32 }
                $0.roleDTypes[.head] = .some(nil)
            }
            let source = try input("models/hxa079")
            let made = try Conversion(of: source, options: options).run()
            for tensor in made.tensors {
                let isDecay = ["w0", "w1", "w2"].contains { tensor.name.hasSuffix("self_attn." + $0) }
                #expect(
                    tensor.dtype == (isDecay ? .f32 : tensor.name == "lm_head.weight" ? .bf16 : .f16), "\(tensor.name)")
                #expect(
                    try made.values(tensor.name).map { Float16($0) }
                        == source.checkpoint.values(tensor.name).map { Float16($0) })
            }
            #expect(try ModelConfiguration(beside: made)?.root["torch_dtype"] == .string("float16"))
        }
    }

    @Test func refuseValuesBeyondAType() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "x.safetensors")
            let values: [Float] = [1, -65520, 65519, .infinity, .nan, 3e38]
            try writeFloats([("w", [6], values)], to: path)
            let source = try input(path.path(percentEncoded: false))
            let target = directory.appending(path: "y.safetensors")
            let error = failure {
                try Conversion(of: source, options: .file(target, .safetensors).with { $0.dtype = .f16 }).run()
            }
            #expect(
                error?.category == .unsupported && error?.tensor == "w" && error?.advice?.contains("--saturate") == true
            )
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["x.safetensors"])
            let made = try Conversion(
                of: source,
                options: .file(target, .safetensors).with {
                    $0.dtype = .f16
                    $0.saturates = true
                }
            ).run()
            let found = try made.values("w")
            #expect(found[0..<4] == [1, -65504, 65504, .infinity] && found[4].isNaN && found[5] == 65504)
        }
    }

    /// Bytes that have changed since they were written are detected while they are read, and no output is created.
    @Test func areNotMadeOfBytesThatWereChanged() throws {
        var limits = ReadLimits.standard
        limits.checkedAtOpeningBytes = 0
        let changed = try Checkpoint.open(Repository.fixture("malformed-pytorch/checksum-of-data"), limits: limits)
        let source = ConversionInput(changed, model: nil, configuration: nil)
        try withTemporaryDirectory { directory in
            for dtype in [nil, DType.f16] {
                let error = failure {
                    try Conversion(
                        of: source,
                        options: .file(directory.appending(path: "x.pth"), .pyTorch).with { $0.dtype = dtype }
                    ).run()
                }
                #expect(error?.category == .malformed && error?.problem.contains("checksum") == true)
            }
            let files = try FileManager.default.contentsOfDirectory(atPath: directory.path)
            #expect(files.isEmpty)
        }
    }

    /// The manifest lists every input tensor once and every output tensor once, with the hash of its bytes, and has
    /// correct totals.
    @Test func haveAccountsThatAddUp() throws {
        struct Manifest: Decodable {
            struct Totals: Decodable {
                let inputs: [String: [String: Int]]
                let output: [String: Int]
            }
            struct Input: Decodable {
                let input: String
                let name: String
                let fate: String
                let outputs: [String]?
            }
            struct Tensor: Decodable {
                let name: String
                let sha256: String
                let bytes: Int
                let origin: String
                let from: String?
            }
            let files: [String]
            let totals: Totals
            let inputs: [Input]
            let tensors: [Tensor]
        }
        let (teacher, training) = try (
            input("conversions/training/teacher"),
            input("models/hxa079-training.pt", config: "conversions/training/teacher/config.json")
        )
        try withTemporaryDirectory { directory in
            let target = directory.appending(path: "x")
            let made = try Conversion(
                of: training, teacher: teacher, options: .directory(target, shardByteCount: 50_000)
            ).run()
            let manifest = try JSONDecoder().decode(
                Manifest.self, from: Data(contentsOf: target.appending(path: "conversion.json")))
            #expect(try Set(manifest.files) == Set(FileManager.default.contentsOfDirectory(atPath: target.path)))
            for (part, input) in [("source", training), ("teacher", teacher)] {
                let own = manifest.inputs.filter { $0.input == part }
                #expect(own.map(\.name).sorted() == input.checkpoint.tensors.map(\.name).sorted())
                let totals = try #require(manifest.totals.inputs[part])
                #expect(totals["tensors"] == own.count)
                for fate in ["copied", "transformed", "tied", "dropped"] {
                    #expect(totals[fate] == own.count { $0.fate == fate })
                }
                for tensor in own where tensor.fate == "copied" {
                    #expect(manifest.tensors.contains { $0.from == tensor.name && tensor.outputs == [$0.name] })
                }
            }
            let contents = try made.contents()
            #expect(manifest.tensors.map(\.name).sorted() == contents.keys.sorted())
            #expect(manifest.tensors.allSatisfy { hexadecimal(contents[$0.name]?.hash ?? []) == $0.sha256 })
            #expect(manifest.totals.output["tensors"] == manifest.tensors.count)
            #expect(manifest.totals.output["copied"] == manifest.tensors.count)
            #expect(manifest.totals.output["bytes"] == manifest.tensors.reduce(0) { $0 + $1.bytes })
        }
    }
}
