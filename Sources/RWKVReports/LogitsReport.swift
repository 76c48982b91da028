public import Bytes
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
public import ModelFamilies
public import TokenFiles

/// The report of the `logits` command.
public struct LogitsReport: Sendable {
    private let model: ModelDescription
    private let path: String
    private let output: String
    private let tokens: TokenSequences
    private let isSeeded: Bool
    private let warnings: [CheckpointWarning]

    /// Creates a report on the logits of the model at `path`, which were recorded at `output`.
    ///
    /// `isSeeded` states whether the tokens were generated from a seed.
    public init(
        _ model: ModelDescription, path: String, output: String, _ tokens: TokenSequences, isSeeded: Bool,
        warnings: [CheckpointWarning]
    ) {
        self.warnings = warnings
        self.model = model
        self.path = path
        self.output = output
        self.tokens = tokens
        self.isSeeded = isSeeded
    }

    private var vocabulary: Int { model.dimensions[.vocabulary] ?? 0 }
    private var length: Int { tokens.sequences[0].count }

    /// Writes the report as a JSON document that conforms to schemas/logits.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", "rwkv-ckpt/logits/1")
            json.member("path", path)
            json.member("model", model.name)
            json.member("output", self.output)
            json.member("tokens", [tokens.sequences.count, length])
            json.member("logits", [tokens.sequences.count, length, vocabulary])
            json.members(seedOf: tokens, isSeeded)
            json.member("warnings", of: warnings)
        }
    }

    /// Writes the report as text.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
        let sequences = countText(tokens.sequences.count, "sequence")
        output.write(
            "\(path.printable()) to \(self.output.printable()): \(model.name), logits of \(sequences) of \(countText(length, "token")), vocabulary \(countText(vocabulary))\n"
        )
        if isSeeded { output.write("tokens from seed \(TokenSequences.seed): \(tokensText(tokens))\n") }
        try output.finish()
    }
}

extension JSONWriter {
    /// Writes the seed and the tokens generated from it, or `null` for both if the tokens were given.
    mutating func members(seedOf tokens: TokenSequences, _ isSeeded: Bool) {
        member("seed", isSeeded ? TokenSequences.seed : nil)
        guard isSeeded else { return member("seeded_ids", JSONValue.null) }
        array("seeded_ids") { json in
            for sequence in tokens.sequences { json.value(sequence) }
        }
    }
}

extension ModelDescription {
    /// The name of the model in reports, which is its variant or, if it has no variant, its family.
    var name: String { variant ?? architecture.family }
}

/// Returns the first twelve tokens of the first sequence, separated by commas.
func tokensText(_ tokens: TokenSequences) -> String {
    let first = tokens.sequences[0]
    return first.prefix(12).map(String.init).joined(separator: ",") + (first.count > 12 ? ",…" : "")
}
