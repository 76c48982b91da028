import TestSupport
import Testing

/// Tests that `inspect` gives the required result for every input in the corpora, with a one-line error for rejected
/// inputs.
@Suite(.serialized) struct MalformedCorpusTests {
    private static let cases = (try? MalformedCorpus.load().cases) ?? []

    @Test(arguments: cases) func endsInOneClearLine(input: MalformedCorpus.Case) throws {
        try input.withInput { path in
            let output = try CommandLineTool.run(["inspect", path])
            #expect(output.status == (input.verdict == "refused" ? input.exit ?? 65 : 0), "\(output)")
            for words in input.words { #expect(output.err.contains(words), "\(words) not in \(output.err)") }
            guard input.verdict == "refused" else { return }
            // Only a dangerous file is listed before it is rejected.
            #expect(output.out.isEmpty != output.err.contains("would run arbitrary code"))
            #expect(output.err.hasPrefix("rwkv-ckpt: \(path)"))
            #expect(output.err.hasSuffix("\n") && output.err.split(separator: "\n").count == 1)
            #expect(output.err.utf8.count < 4000)
        }
    }
}
