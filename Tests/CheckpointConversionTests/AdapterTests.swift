import Bytes
import CheckpointConversion
import CheckpointFiles
import Foundation
import ModelFamilies
import TestSupport
import Testing

@Suite struct AdapterTests {
    /// Compares merged weights with peft's merge_and_unload and RWKVInside's formulas, within fp32 rounding.
    @Test(arguments: [
        "peft-lora", "peft-rslora", "peft-lora-bias", "peft-dora", "peft-miss", "peft-miss-remainder", "peft-miss-bat",
        "peft-miss-mini", "rwkvinside-adapter",
    ])
    func areMerged(name: String) throws {
        let directory = "conversions/\(name)/"
        let merged = try Checkpoint.open(Repository.fixture(directory + "merged.safetensors"))
        let metadata = merged.metadata
        let source = try input("models/" + #require(metadata["base"]))
        let scale = metadata["scale"].flatMap { Double($0) }
        let adapter = try Checkpoint.open(Repository.fixture(directory + (scale == nil ? "" : "adapter.pt")))
        try withTemporaryDirectory { scratch in
            let made = try Conversion(
                of: source, adapter: adapter, adapterScale: scale,
                options: .directory(scratch.appending(path: "x")).with { $0.dtype = .f32 }
            ).run()
            #expect(made.tensorCount == source.checkpoint.tensorCount)
            for tensor in made.tensors {
                let found = try made.values(tensor.name)
                guard merged.tensor(named: tensor.name) != nil else {
                    #expect(try found == source.checkpoint.values(tensor.name), "\(tensor.name)")
                    continue
                }
                let expected = try merged.values(tensor.name)
                let largest = expected.reduce(0) { max($0, abs($1)) }
                let difference = zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
                #expect(difference <= 5e-7 * largest, "\(tensor.name): \(difference) of \(largest)")
                // The adapter changes this weight, so the test would fail if it were not merged.
                #expect(try expected != source.checkpoint.values(tensor.name))
            }
        }
    }

    /// Names are split at bytes, so a combining mark after a dot does not hide the dot.
    @Test func haveNamesThatAreBytes() throws {
        try withTemporaryDirectory { directory in
            func write(_ names: String..., to file: String) throws -> String {
                let path = directory.appending(path: file)
                let entries = names.enumerated().map {
                    #""\#($1)":{"dtype":"F32","shape":[1,1],"data_offsets":[\#(4 * $0),\#(4 * $0 + 4)]}"#
                }
                try writeSafetensors(
                    header: "{\(entries.joined(separator: ","))}", data: Data(count: 4 * names.count), to: path)
                return path.path(percentEncoded: false)
            }
            try Data(#"{"peft_type": "LORA", "lora_alpha": 1}"#.utf8)
                .write(to: directory.appending(path: "adapter_config.json"))
            let adapter = try Checkpoint.open(
                write(
                    "base_model.model.x.base_layer.\u{301}y", "base_model.model.a.\u{301}b.lora_A.weight",
                    "base_model.model.a.\u{301}b.lora_B.weight", to: "adapter.safetensors"))
            #expect(try Adapter(adapter)?.targets == ["\u{301}b"])
            let source = try input(write("x.\u{301}y", "a.\u{301}b.weight", to: "base.safetensors"))
            let made = try Conversion(
                of: source, adapter: adapter, options: .file(directory.appending(path: "made"), .safetensors)
            ).run()
            #expect(made.tensorCount == 2)
        }
    }

    /// Merging gives the same weights in every layout, and when the merged model becomes a student.
    @Test func areMergedInOtherLayoutsAndIntoStudents() throws {
        let adapter = try Checkpoint.open(Repository.fixture("conversions/rwkvinside-adapter/adapter.pt"))
        let config = "models/hxa079/config.json"
        try withTemporaryDirectory { scratch in
            let direct = try Conversion(
                of: input("models/hxa079"), adapter: adapter, adapterScale: 0.5,
                options: .directory(scratch.appending(path: "direct"))
            ).run()
            let flat = try Conversion(
                of: input("models/hxa079.pth", config: config), adapter: adapter, adapterScale: 0.5,
                options: .directory(scratch.appending(path: "flat")).with { $0.layout = .huggingFace }
            ).run()
            #expect(try direct.contents() == flat.contents())

            let teacher = try input("models/qwen3")
            let lora = try Checkpoint.open(Repository.fixture("conversions/peft-lora"))
            let merged = try Conversion(
                of: teacher, adapter: lora, options: .directory(scratch.appending(path: "merged"))
            ).run()
            let student = try Conversion(
                of: teacher, plan: plan(for: teacher, .cxa079, keeping: [1]), adapter: lora,
                options: .directory(scratch.appending(path: "student"))
            ).run()
            for (name, counterpart) in [
                ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.receptance.weight"),
                ("model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"),
                ("model.layers.3.mlp.down_proj.weight", "model.layers.3.mlp.down_proj.weight"),
            ] {
                #expect(try merged.values(name) == student.values(counterpart))
                #expect(try merged.values(name) != teacher.checkpoint.values(name))
            }
        }
    }

    /// Writes a peft adapter of rank 2 for one module, with random values, and returns the values.
    private func writeAdapter(
        to directory: URL, _ module: String, rows: Int, columns: Int, magnitudes: Bool = false, base: [Float]? = nil,
        _ configuration: String
    ) throws -> (down: [Float], up: [Float], magnitudes: [Float]) {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let random = { (count: Int) in (0..<count).map { _ in Float.random(in: -1...1) } }
        let (down, up, lengths) = (random(2 * columns), random(rows * 2), random(rows).map { $0 + 2 })
        let prefix = "base_model.model.\(module)"
        var tensors: [(String, [Int], [Float])] = [
            ("\(prefix).lora_A.weight", [2, columns], down), ("\(prefix).lora_B.weight", [rows, 2], up),
        ]
        if magnitudes { tensors.append(("\(prefix).lora_magnitude_vector", [rows], lengths)) }
        if let base { tensors.append(("\(prefix).base_layer.weight", [rows, columns], base)) }
        try writeFloats(tensors, to: directory.appending(path: "adapter_model.safetensors"))
        try configuration.write(
            to: directory.appending(path: "adapter_config.json"), atomically: false, encoding: .utf8)
        return (down, up, lengths)
    }

    /// Merges weights that are larger than one piece, and compares them with the formula in double precision.
    ///
    /// peft has saved some of these weights with the adapter.
    @Test func areMergedRowByRow() throws {
        let (rows, columns) = (1100, 700)
        let weight = (0..<rows * columns).map { _ in Float.random(in: -1...1) }
        let other = weight.map { $0 + 1 }
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model.safetensors")
            try writeFloats([("lm_head.weight", [rows, columns], weight)], to: path)
            for (number, magnitudes) in [(0, false), (1, true)] {
                for base in [nil, other] {
                    let adapter = directory.appending(path: "\(number)\(base == nil)")
                    let parts = try writeAdapter(
                        to: adapter, "lm_head", rows: rows, columns: columns, magnitudes: magnitudes, base: base,
                        #"{"peft_type": "LORA", "lora_alpha": 3, "use_dora": \#(magnitudes)}"#)
                    let made = try Conversion(
                        of: input(path.path(percentEncoded: false)),
                        adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                        options: .file(directory.appending(path: "\(number)\(base == nil).safetensors"), .safetensors)
                    ).run()
                    let found = try made.values("lm_head.weight")
                    for row in stride(from: 0, to: rows, by: 7) {
                        var expected = (0..<columns).map { column in
                            Double((base ?? weight)[row * columns + column])
                                + 1.5
                                * (Double(parts.up[row * 2]) * Double(parts.down[column])
                                    + Double(parts.up[row * 2 + 1]) * Double(parts.down[columns + column]))
                        }
                        if magnitudes {
                            let length = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
                            expected = expected.map { $0 * Double(parts.magnitudes[row]) / length }
                        }
                        let own = found[row * columns..<(row + 1) * columns]
                        #expect(zip(own, expected).allSatisfy { abs($0 - $1) < 2e-6 }, "row \(row)")
                    }
                }
            }
        }
    }

    /// An adapter is rejected if it cannot be merged with its intended meaning.
    @Test func areRefusedWhereTheirMeaningIsAnother() throws {
        struct Case {
            let base: String
            let module: String
            let rows: Int
            let columns: Int
            let configuration: String
            let layout: TensorLayout?
            let problem: String
        }
        let plain = #"{"peft_type": "LORA", "lora_alpha": 3}"#
        let query = "model.layers.0.self_attn.q_proj"
        func qwen3(_ configuration: String, _ problem: String) -> Case {
            Case(
                base: "models/qwen3", module: query, rows: 64, columns: 32, configuration: configuration, layout: nil,
                problem: problem)
        }
        for test in [
            qwen3(plain, ""),
            // The matrix is transposed in the result or in the source.
            Case(
                base: "models/rwkv7-fla", module: "model.layers.1.attn.w_lora.lora.0", rows: 16, columns: 64,
                configuration: plain, layout: .official,
                problem: "the adapter changes a matrix that the layout stores transposed"),
            Case(
                base: "models/rwkv7-fla", module: "model.layers.1.attn.w_lora.lora.0", rows: 16, columns: 64,
                configuration: plain, layout: nil, problem: ""),
            Case(
                base: "models/rwkv7.pth", module: "model.layers.1.attn.w_lora.lora.0", rows: 16, columns: 64,
                configuration: plain, layout: nil, problem: "the adapter changes a tensor that the model does not have"),
            qwen3(
                #"{"peft_type": "LORA", "lora_alpha": 3, "init_lora_weights": "pissa_niter_4"}"#,
                "the adapter's initialisation changed the base model (init_lora_weights)"),
            qwen3(#"{"peft_type": "LORA", "lora_alpha": 1e39}"#, "the LoRA scale does not fit into fp32"),
            qwen3(
                #"{"peft_type": "LORA", "lora_alpha": null}"#,
                "the alpha of this module is missing or not a finite number"),
            qwen3(
                #"{"peft_type": "LORA", "lora_alpha": 3, "use_rslora": 1}"#,
                "use_dora and use_rslora must be true or false"
            ),
            qwen3(#"{"peft_type": "LORA", "lora_alpha": 3, "use_dora": true}"#, "the DoRA magnitudes are missing"),
            qwen3(#"{"peft_type": "LOHA", "alpha": 3}"#, "merging is not implemented for this type of adapter"),
            qwen3(
                #"{"peft_type": "LORA", "lora_alpha": 3, "fan_in_fan_out": true}"#,
                "merging is not implemented for adapters with \"fan_in_fan_out\""),
            qwen3(
                #"{"peft_type": "LORA", "lora_alpha": 3, "alpha_pattern": {"q_proj": 4, "self_attn.q_proj": 5}}"#,
                "alpha_pattern has several values for a module"),
            qwen3(
                #"{"peft_type": "LORA", "lora_alpha": 3, "alpha_pattern": {".*proj": 4}}"#,
                "a key of alpha_pattern is not a plain name"),
        ] {
            try withTemporaryDirectory { directory in
                let adapter = directory.appending(path: "adapter")
                _ = try writeAdapter(
                    to: adapter, test.module, rows: test.rows, columns: test.columns, test.configuration)
                let error = failure {
                    try Conversion(
                        of: input(test.base), adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                        options: .file(directory.appending(path: "x.pth"), .pyTorch).with { $0.layout = test.layout }
                    ).run()
                }
                #expect(error?.problem ?? "" == test.problem, "\(test.base) \(test.configuration)")
            }
        }
    }

    /// If the embedding and the head are tied, an adapter for only one of them is rejected.
    @Test func areRefusedForOneOfTwoThatAreOne() throws {
        try withTemporaryDirectory { directory in
            try writeConfiguration(of: "models/qwen3", to: directory, "tie_word_embeddings", "true")
            let head = (0..<96 * 32).map { _ in Float.random(in: -1...1) }
            let whole = try Checkpoint.open(Repository.fixture("models/qwen3"))
            let others = try whole.tensors.filter {
                !["lm_head.weight", "model.embed_tokens.weight"].contains($0.name)
            }
            .map { ($0.name, $0.shape, try whole.values($0.name).map { Float($0) }) }
            try writeFloats(
                others + [("lm_head.weight", [96, 32], head), ("model.embed_tokens.weight", [96, 32], head)],
                to: directory.appending(path: "model.safetensors"))
            let adapter = directory.appending(path: "adapter")
            _ = try writeAdapter(
                to: adapter, "lm_head", rows: 96, columns: 32, #"{"peft_type": "LORA", "lora_alpha": 3}"#)
            let error = failure {
                _ = try Conversion(
                    of: input(directory.path(percentEncoded: false)),
                    adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                    options: .directory(directory.appending(path: "x")))
            }
            #expect(
                error?.problem.hasPrefix("the adapter changes the embedding or the head, which are tied in") == true)
        }
    }

    /// A result that fp32 cannot represent is an error and does not become infinity.
    @Test func areRefusedBeyondFloats() throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model.safetensors")
            try writeFloats([("w.weight", [2, 2], [3e38, -3e38, 1, .infinity])], to: path)
            let adapter = directory.appending(path: "adapter.safetensors")
            try writeFloats([("w.lora_A", [1, 2], [1, 1]), ("w.lora_B", [2, 1], [3e38, 1])], to: adapter)
            let error = failure {
                try Conversion(
                    of: input(path.path(percentEncoded: false)),
                    adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                    adapterScale: 1, options: .file(directory.appending(path: "x.safetensors"), .safetensors)
                ).run()
            }
            #expect(error?.problem == "a value is out of range for F32" && error?.tensor == "w.weight")
            let made = try Conversion(
                of: input(path.path(percentEncoded: false)),
                adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                adapterScale: -0.1, options: .file(directory.appending(path: "y.safetensors"), .safetensors)
            ).run()
            #expect(try made.values("w.weight")[3] == .infinity)
        }
    }

    /// DoRA divides each row by its length.
    ///
    /// If the length is zero, peft makes the row NaN; here it is an error.
    @Test(arguments: [Float(2), 0]) func areRefusedWhereARowHasNoLength(magnitude: Float) throws {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model.safetensors")
            try writeFloats([("w.weight", [3, 2], [1, 2, 0, 0, 3, 4])], to: path)
            let adapter = directory.appending(path: "adapter")
            try FileManager.default.createDirectory(at: adapter, withIntermediateDirectories: true)
            try writeFloats(
                [
                    ("base_model.model.w.lora_A.weight", [1, 2], [1, 1]),
                    ("base_model.model.w.lora_B.weight", [3, 1], [0, 0, 0]),
                    ("base_model.model.w.lora_magnitude_vector", [3], [1, magnitude, 1]),
                ], to: adapter.appending(path: "adapter_model.safetensors"))
            try Data(#"{"peft_type": "LORA", "lora_alpha": 1, "use_dora": true}"#.utf8)
                .write(to: adapter.appending(path: "adapter_config.json"))
            let error = failure {
                try Conversion(
                    of: input(path.path(percentEncoded: false)),
                    adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                    options: .file(directory.appending(path: "x.safetensors"), .safetensors)
                ).run()
            }
            #expect(error?.category == .notFinite && error?.tensor == "w.weight")
            #expect(error?.found == "row 1", "\(String(describing: error))")
        }
    }

    /// A combining mark that forms one character with an adjacent dot is still part of the name, so these names are not
    /// those of the model's weight.
    @Test(arguments: ["base_model.model.\u{301}w", "w\u{600}"]) func areRefusedWhereAMarkJoinsADot(module: String)
        throws
    {
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model.safetensors")
            try writeFloats([("w.weight", [2, 2], [0, 0, 0, 0])], to: path)
            let adapter = directory.appending(path: "adapter.safetensors")
            try writeFloats(
                [("\(module).lora_A.weight", [1, 2], [1, 0]), ("\(module).lora_B.weight", [2, 1], [1, 0])], to: adapter)
            try Data(#"{"peft_type": "LORA", "lora_alpha": 1}"#.utf8)
                .write(to: directory.appending(path: "adapter_config.json"))
            let error = failure {
                _ = try Conversion(
                    of: input(path.path(percentEncoded: false)),
                    adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                    options: .file(directory.appending(path: "y.safetensors"), .safetensors))
            }
            #expect(error?.problem == "the adapter changes a tensor that the model does not have")
        }
    }

    /// Modules whose names differ only by Unicode normalisation are kept separate.
    @Test func areOfTheModulesThatTheirNamesGiveByteForByte() throws {
        let modules = ["caf\u{E9}", "cafe\u{301}"]
        try withTemporaryDirectory { directory in
            let path = directory.appending(path: "model.safetensors")
            try writeFloats(modules.map { ("\($0).weight", [2, 2], [0, 0, 0, 0]) }, to: path)
            let adapter = directory.appending(path: "adapter.safetensors")
            try writeFloats(
                modules.enumerated().flatMap { number, module in
                    [
                        ("\(module).lora_A", [1, 2], [Float(number + 1), 0]),
                        ("\(module).lora_B", [2, 1], [1, 0]),
                    ]
                }, to: adapter)
            let opened = try Checkpoint.open(adapter.path(percentEncoded: false))
            let found = try #require(try Adapter(opened))
            #expect(found.moduleCount == 2)
            #expect(found.targets.map { Array($0.utf8) } == modules.reversed().map { Array($0.utf8) })
            let made = try Conversion(
                of: input(path.path(percentEncoded: false)), adapter: opened, adapterScale: 1,
                options: .file(directory.appending(path: "y.safetensors"), .safetensors)
            ).run()
            #expect(try modules.map { try made.values("\($0).weight")[0] } == [1, 2])
        }
    }

    @Test func areRefusedWhereTheyDoNotFit() throws {
        struct Case {
            let adapter: String
            let base: String
            let scale: Double?
            let problem: String
        }
        for test in [
            Case(
                adapter: "conversions/rwkvinside-adapter/adapter.pt", base: "models/hxa079", scale: nil,
                problem: "the adapter does not record its LoRA scale"),
            Case(
                adapter: "conversions/peft-lora", base: "models/llama", scale: nil,
                problem: "the adapter changes a tensor that the model does not have"),
            Case(
                adapter: "conversions/peft-lora", base: "models/reka", scale: nil,
                problem: "the shape of the LoRA matrix A does not fit the weight"),
            Case(
                adapter: "conversions/peft-miss-bat", base: "models/reka", scale: nil,
                problem: "the Bone blocks do not cover the weight"),
            Case(
                adapter: "conversions/peft-lora/adapter_model.safetensors", base: "models/hxa079", scale: nil,
                problem: "the adapter changes a tensor that the model does not have"),
            Case(adapter: "models/qwen3", base: "models/qwen3", scale: nil, problem: ""),
            Case(
                adapter: "models/qwen3", base: "models/llama", scale: nil,
                problem: "the adapter replaces a tensor with one of a different shape"),
        ] {
            try withTemporaryDirectory { scratch in
                let error = failure {
                    _ = try Conversion(
                        of: input(test.base), adapter: Checkpoint.open(Repository.fixture(test.adapter)),
                        adapterScale: test.scale, options: .directory(scratch.appending(path: "x")))
                }
                #expect(error?.problem ?? "" == test.problem, "\(test.adapter) on \(test.base)")
                let files = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
                #expect(files.isEmpty)
            }
        }
    }
}
