import CheckpointConversion
import CheckpointFiles
import Foundation
import ModelFamilies
import TestSupport
import Testing

@Suite struct AdapterTests {
    /// What peft's merge_and_unload and RWKVInside's formulas make of every weight, to the rounding of fp32.
    @Test(arguments: [
        "peft-lora", "peft-rslora", "peft-lora-bias", "peft-dora", "peft-miss", "peft-miss-remainder", "peft-miss-bat",
        "peft-miss-mini", "rwkvinside-adapter",
    ])
    func areMerged(name: String) throws {
        let directory = "conversions/\(name)/"
        let merged = try Checkpoint.open(Repository.fixture(directory + "merged.safetensors"))
        let metadata = Dictionary(uniqueKeysWithValues: merged.metadata.map { ($0.key, $0.value) })
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
                // An adapter that was left out would show.
                #expect(try expected != source.checkpoint.values(tensor.name))
            }
        }
    }

    /// The same weights whatever their names, and in a student as in its teacher.
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
                problem: "the scale of its LoRA stands nowhere"),
            Case(
                adapter: "conversions/peft-lora", base: "models/llama", scale: nil,
                problem: "it changes what the model does not have"),
            Case(
                adapter: "conversions/peft-lora", base: "models/reka", scale: nil,
                problem: "A has not the weight's columns"),
            Case(
                adapter: "conversions/peft-miss-bat", base: "models/reka", scale: nil,
                problem: "the blocks do not make up the weight"),
            Case(
                adapter: "conversions/peft-lora/adapter_model.safetensors", base: "models/hxa079", scale: nil,
                problem: "it changes what the model does not have"),
            Case(adapter: "models/qwen3", base: "models/qwen3", scale: nil, problem: ""),
            Case(
                adapter: "models/qwen3", base: "models/llama", scale: nil,
                problem: "it replaces a tensor by one of other sizes"),
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
