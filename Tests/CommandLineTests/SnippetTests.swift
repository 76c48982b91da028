import Foundation
import TestSupport
import Testing

/// Tests that the programs in Snippets/, which the documentation shows, run and print what is expected.
@Suite struct SnippetTests {
    @Test("converts a transformer, and finds the first block that diverges")
    func convertsAndCompares() throws {
        try withTemporaryDirectory { directory in
            let teacher = Repository.fixture("planted-teacher")
            let student = directory.appending(path: "student").path
            let conversion = try CommandLineTool.run([teacher, student], program: "ConvertTeacher")
            #expect(conversion.status == 0, "\(conversion.err)")
            #expect(
                conversion.out == """
                    model.embed_tokens.weight F32 [320, 128]
                    model.layers.0.input_layernorm.weight F32 [128]
                    model.layers.0.mlp.down_proj.weight F32 [128, 384]
                    12 norms with 0 values that are not finite
                    qwen3 with 6 layers
                    hxa079 with attention in layers [3]
                    0 rwkv7 gives first values
                    1 rwkv7 not chosen
                    2 rwkv7 not chosen
                    3 gqa prior, at 0.60 of the depth
                    4 rwkv7 not chosen
                    5 rwkv7 not chosen
                    68 tensors are copied, 75 are new
                    143 tensors are written

                    """)
            #expect(FileManager.default.fileExists(atPath: student + "/conversion.json"))

            let comparison = try CommandLineTool.run([teacher, student], program: "CompareModels")
            #expect(comparison.status == 0, "\(comparison.err)")
            #expect(
                comparison.out == """
                    320 logits after 3 tokens
                    continuation: [32, 49, 49, 32, 61]
                    verdict: differs
                    first divergence: mixer of layer 0

                    """)
        }
    }

    @Test("a copy of the model matches")
    func copyMatches() throws {
        let model = Repository.fixture("planted-teacher")
        let comparison = try CommandLineTool.run([model, model], program: "CompareModels")
        #expect(comparison.status == 0, "\(comparison.err)")
        #expect(comparison.out.hasSuffix("verdict: match\n"))
    }
}
