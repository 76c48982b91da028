import Bytes
import CheckpointFiles
import TestSupport
import Testing

/// Tests that the library accepts or refuses the inputs of the malformed corpora as expected.
///
/// Inputs that are built from a recipe are left out here. The command-line tests replay all inputs, with a watchdog.
@Suite(.serialized) struct MalformedCorpusTests {
    private static let cases = (try? MalformedCorpus.load().cases) ?? []

    @Test func isAllThere() {
        #expect(Self.cases.count { $0.directory == "malformed" } >= 200)
        #expect(Self.cases.count { $0.directory == "malformed-pytorch" } >= 250)
        #expect(Self.cases.count { $0.directory == "malformed-zstd" } >= 30)
        #expect(Self.cases.filter { $0.verdict == "refused" }.count >= 400)
    }

    @Test(.timeLimit(.minutes(1)), arguments: cases.filter { $0.recipe == nil }) func getsItsVerdict(
        input: MalformedCorpus.Case
    ) throws {
        try input.withInput { path in
            do {
                let checkpoint = try Checkpoint.open(path)
                #expect(input.verdict == "accepted", "opened with \(checkpoint.tensorCount) tensors")
                #expect(checkpoint.tensors.count == checkpoint.tensorCount)
                let warnings = checkpoint.warnings.map { "\($0.path): \($0.message)" }
                #expect(warnings.isEmpty == input.words.isEmpty, "\(warnings)")
                for words in input.words {
                    #expect(warnings.contains { $0.contains(words) }, "\(words) not in \(warnings)")
                }
            } catch let error as CheckpointError {
                #expect(input.verdict == "refused", "\(error)")
                #expect(
                    error.category
                        == (input.exit == 66
                            ? .notFound
                            : [.unsupported, .dangerous].contains(error.category) ? error.category : .malformed))
                #expect(!error.description.contains("\n"))
                for words in input.words { #expect(error.description.contains(words), "\(words) not in \(error)") }
            }
        }
    }

    /// The library refuses every safetensors file that the reference implementation refuses.
    ///
    /// This does not apply to PyTorch files. torch refuses some pickles because of the globals that they name, whereas
    /// the library reads these pickles without running anything.
    @Test func isNoLaxerThanTheReference() {
        for input in Self.cases where input.reference == "refused" && input.directory == "malformed" {
            #expect(input.verdict == "refused", "\(input.name)")
        }
    }
}
