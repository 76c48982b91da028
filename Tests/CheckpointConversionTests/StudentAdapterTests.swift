import Bytes
import CheckpointConversion
import CheckpointFiles
import Foundation
import ModelFamilies
import TestSupport
import Testing

/// Tests that adapters merge into the time mixing and attention of each family.
struct StudentAdapterTests {
    private static let projections = [
        "q_proj", "k_proj", "v_proj", "o_proj", "receptance", "key", "value", "output", "gate",
    ]
    private static let models = [
        "eagle-finch/x060-hf", "eagle-finch/x052-hf", "hxa07/cxa07a", "hxa07/hxa07b", "hxa07/cxa07d",
        "radlads/rad-rwkv7", "radlads/rad-rwkv7-group-norm", "radlads/rad-rwkv7-qwen3", "radlads/rad-rwkv6",
        "arwkv/arwkv", "arwkv/arwkv-gate",
    ]

    /// Returns W + 1.5 B A, with its rows scaled to the magnitudes if there are any.
    private func lora(
        _ weight: [Float], columns: Int, down: [Float], up: [Float], magnitudes: [Float]?
    ) -> [Double] {
        (0..<weight.count / columns).flatMap { row -> [Double] in
            let changed = (0..<columns).map { column in
                Double(weight[row * columns + column])
                    + 1.5
                    * (Double(up[row * 2]) * Double(down[column])
                        + Double(up[row * 2 + 1]) * Double(down[columns + column]))
            }
            guard let magnitudes else { return changed }
            let length = changed.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return changed.map { $0 * Double(magnitudes[row]) / length }
        }
    }

    /// Replaces each block W of 8 x 8 elements with W + W B + B, where B is the bone of the block's columns.
    private func boned(_ weight: [Float], columns: Int, _ bone: [Float]) -> [Double] {
        weight.indices.map { index in
            let (row, column) = (index / columns, index % columns)
            let (block, inner) = (column / 8, column % 8)
            func element(_ i: Int) -> Double { Double(bone[(block * 8 + i) * 8 + inner]) }
            let product = (0..<8).reduce(0.0) { $0 + Double(weight[row * columns + block * 8 + $1]) * element($1) }
            return Double(weight[index]) + product + element(row % 8)
        }
    }

    @Test(arguments: models, [Adapter.Kind.lora, .dora, .bone])
    func areMerged(model: String, kind: Adapter.Kind) throws {
        let source = try input(model)
        var tensors: [(String, [Int], [Float])] = []
        var expected: [String: [Double]] = [:]
        for tensor in source.checkpoint.tensors where tensor.shape.count == 2 {
            guard let module = tensor.name.dropping(suffix: ".weight"), tensor.name.contains("att"),
                Self.projections.contains(where: { module.hasSuffix(".\($0)") })
            else { continue }
            let (rows, columns) = (tensor.shape[0], tensor.shape[1])
            let weight = try source.checkpoint.values(tensor.name).map { Float($0) }
            var random = SplitMix64(seed: 7, name: tensor.name)
            func values(_ count: Int) -> [Float] { (0..<count).map { _ in Float(random.uniform()) / 4 } }
            let prefix = "base_model.model.\(module)"
            if kind == .bone {
                let bone = values(columns * 8)
                tensors.append(("\(module).bone", [columns / 8, 8, 8], bone))
                expected[tensor.name] = boned(weight, columns: columns, bone)
                continue
            }
            let (down, up) = (values(2 * columns), values(2 * rows))
            let magnitudes = kind == .dora ? values(rows).map { $0 + 2 } : nil
            tensors.append(("\(prefix).lora_A.weight", [2, columns], down))
            tensors.append(("\(prefix).lora_B.weight", [rows, 2], up))
            if let magnitudes { tensors.append(("\(prefix).lora_magnitude_vector", [rows], magnitudes)) }
            expected[tensor.name] = lora(weight, columns: columns, down: down, up: up, magnitudes: magnitudes)
        }
        #expect(expected.count >= 8)
        try withTemporaryDirectory { directory in
            let adapter = directory.appending(path: "adapter_model.safetensors")
            try writeFloats(tensors, to: adapter)
            if kind != .bone {
                try #"{"peft_type": "LORA", "lora_alpha": 3, "use_dora": \#(kind == .dora)}"#
                    .write(to: directory.appending(path: "adapter_config.json"), atomically: false, encoding: .utf8)
            }
            let made = try Conversion(
                of: source, adapter: Checkpoint.open(adapter.path(percentEncoded: false)),
                options: .directory(directory.appending(path: "x")).with { $0.dtype = .f32 }
            ).run()
            for tensor in made.tensors {
                let found = try made.values(tensor.name)
                guard let numbers = expected[tensor.name] else {
                    #expect(try found == source.checkpoint.values(tensor.name), "\(tensor.name)")
                    continue
                }
                let largest = numbers.reduce(0) { max($0, abs($1)) }
                let difference = zip(found, numbers).reduce(0) { max($0, abs(Double($1.0) - $1.1)) }
                #expect(difference <= 5e-7 * largest, "\(tensor.name): \(difference) of \(largest)")
            }
            #expect(try input(made.path).model?.findings.isEmpty == true)
        }
    }
}
