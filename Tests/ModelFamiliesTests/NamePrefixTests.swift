import CheckpointFiles
import Foundation
import ModelFamilies
import TestSupport
import Testing

/// Tests of tensor names with the prefixes that training wrappers and multimodal models add.
@Suite struct NamePrefixTests {
    private func describe(
        _ names: (String) -> String, others: [(name: String, shape: [Int])] = []
    ) throws -> ModelDescription? {
        let fixture = try Checkpoint.open(Repository.fixture("models/llama"))
        return try withTemporaryDirectory { directory in
            let file = directory.appending(path: "model.safetensors")
            try writeSafetensors(fixture.tensors.map { (names($0.name), $0.shape) } + others, to: file)
            try FileManager.default.copyItem(
                atPath: Repository.fixture("models/llama/config.json"),
                toPath: directory.appending(path: "config.json").path)
            let checkpoint = try Checkpoint.open(file.path(percentEncoded: false))
            return try RecognisedModel(checkpoint).knownDescription
        }
    }

    private static func textModel(_ name: String, _ prefix: String) -> String {
        name.hasPrefix("model.") ? prefix + name.dropFirst("model.".count) : name
    }

    @Test(arguments: [
        "module.", "_orig_mod.", "_forward_module.", "base_model.model.", "module._orig_mod.", "_orig_mod.module.",
        "language_model.", "module.language_model.",
    ])
    func stripsWhatAllNamesHave(_ prefix: String) throws {
        let found = try #require(try describe { prefix + $0 })
        #expect(found.findings.isEmpty && found.architecture.family == "llama", "\(found.findings)")
        #expect(found.evidence.contains("names begin with \(prefix)"))
        #expect(found.runBlocker == nil && found.conversionBlocker == nil)
    }

    @Test func stripsNothingThatSomeNamesLack() throws {
        let found = try describe { $0.hasSuffix("norm.weight") ? $0 : "module." + $0 }
        #expect(found == nil || found?.runBlocker != nil)
        // A wrapper's prefix in the middle of a name is part of the name.
        let other = try describe { "other.module." + $0 }
        #expect(other == nil || other?.runBlocker != nil)
    }

    @Test(arguments: ["model.language_model.", "model.language_model.model.", "language_model.model."])
    func findsTheTextModelOfALargerOne(_ prefix: String) throws {
        let others = [("vision_tower.blocks.0.weight", [4]), ("model.visual.patch.weight", [2, 2])]
        let found = try #require(try describe({ Self.textModel($0, prefix) }, others: others))
        #expect(found.findings.allSatisfy { $0.kind == .otherModel })
        #expect(Set(found.findings.compactMap(\.tensor)) == Set(others.map(\.0)))
        #expect(found.runBlocker == nil && found.conversionBlocker == nil)
        // A conversion must explicitly name the tensors that it leaves out.
        #expect(found.conversionBlocker { _ in false } != nil)
        #expect(found.conversionBlocker { $0.hasPrefix("vision_tower.") } != nil)
        #expect(found.conversionBlocker { $0.hasPrefix("vision_tower.") || $0.hasPrefix("model.visual.") } == nil)
    }
}
