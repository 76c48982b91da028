import TestSupport
import Testing

/// Every input of all corpora, as a user meets it: the verdict, the exit status, one clear line, in time.
@Suite(.serialized) struct MalformedCorpusTests {
    private static let cases = (try? MalformedCorpus.load().cases) ?? []

    @Test(arguments: cases) func endsInOneClearLine(input: MalformedCorpus.Case) throws {
        try input.withInput { path in
            let output = try CommandLineTool.run(["inspect", path])
            #expect(output.status == (input.verdict == "refused" ? input.exit ?? 65 : 0), "\(output)")
            for words in input.words { #expect(output.err.contains(words), "\(words) not in \(output.err)") }
            guard input.verdict == "refused" else { return }
            // What is dangerous is shown before it is refused.
            #expect(output.out.isEmpty != output.err.contains("would run foreign code"))
            #expect(output.err.hasPrefix("rwkv-ckpt: \(path)"))
            #expect(output.err.hasSuffix("\n") && output.err.split(separator: "\n").count == 1)
            #expect(output.err.utf8.count < 4000)
        }
    }
}
