public import Bytes
import CheckpointFiles
import RWKVEvaluation
public import RWKVInference
public import RWKVNumerics
public import TokenFiles

/// The agreement of a student with its teacher on held-out tokens.
public struct HeldOut: Sendable, Hashable {
    /// The number of tokens evaluated.
    public internal(set) var tokenCount: Int
    /// The mean KL divergence of the student's predictions from the teacher's, in nats per token.
    public internal(set) var divergence: Double
    /// The top-1 agreement: the fraction of positions at which both models predict the same next token.
    public internal(set) var agreement: Double
    /// The in-context recall of both models: how often each predicts the token that followed the previous occurrence of
    /// the current token.
    public internal(set) var recall: Recall

    /// The in-context recall of a student and its teacher.
    ///
    /// Recall is measured at positions where a token recurs with the same successor as at its previous occurrence.
    public struct Recall: Sendable, Hashable {
        /// The number of positions at which recall is measured.
        public internal(set) var count: Int
        /// The number of these positions at which the teacher predicts the next token correctly.
        public internal(set) var teacher: Int
        /// The number of these positions at which the student predicts the next token correctly.
        public internal(set) var student: Int
        /// The number of these positions at which both models predict the next token correctly.
        public internal(set) var both: Int

        /// The fraction of the tokens recalled by the teacher that the student recalls too; nil if the teacher recalls
        /// none.
        ///
        /// Positions where the teacher does not recall the token are ignored, because the repetition is probably
        /// coincidental.
        public var accuracy: Double? { teacher == 0 ? nil : Double(both) / Double(teacher) }
    }
}

extension HeldOut {
    /// Evaluates a student against its teacher; each sequence starts from the initial state.
    ///
    /// - Parameters:
    ///   - teacher: the model to compare the student with.
    ///   - student: a model with the same vocabulary size as the teacher.
    ///   - tokens: the held-out sequences.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Throws: `CheckpointError`: `unsupported` if the vocabulary sizes differ, `malformed` if a token is outside
    ///   the vocabulary, or any error from running a model.
    public init(
        _ teacher: Model<Float>, _ student: Model<Float>, _ tokens: TokenSequences, _ kernels: Kernels<Float>,
        progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        guard student.vocabulary == teacher.vocabulary else {
            throw CheckpointError(
                .unsupported, path: student.checkpoint.path,
                "the vocabulary size differs from that of \(teacher.checkpoint.path)",
                expected: "\(teacher.vocabulary)",
                found: "\(student.vocabulary)")
        }
        try tokens.check(vocabulary: teacher.vocabulary)
        var comparison = LogitsComparison()
        var agreements = 0
        var recalled = (count: 0, teacher: 0, student: 0, both: 0)
        for sequence in tokens.sequences {
            let queries = Self.queries(sequence)
            var states = (teacher.start(length: sequence.count), student.start(length: sequence.count))
            for part in sequence.count.parts(of: tokensPerChunk) {
                let ids = Array(sequence[part])
                let theirs = try teacher.hidden(ids, &states.0, kernels, progress: progress)
                let own = try student.hidden(ids, &states.1, kernels, progress: progress)
                for rows in ids.count.parts(of: logitRowsPerChunk) {
                    let expected = try teacher.logits(theirs.rows(rows), kernels)
                    let found = try student.logits(own.rows(rows), kernels)
                    for row in 0..<rows.count {
                        let place = part.lowerBound + rows.lowerBound + row
                        let next = place + 1 < sequence.count ? sequence[place + 1] : nil
                        let best = comparison.add(expected, found, row: row, next: next)
                        agreements += best.reference == best.candidate ? 1 : 0
                        guard queries.contains(place) else { continue }
                        recalled.count += 1
                        recalled.teacher += best.reference == next ? 1 : 0
                        recalled.student += best.candidate == next ? 1 : 0
                        recalled.both += best.reference == next && best.candidate == next ? 1 : 0
                    }
                }
            }
        }
        self.init(
            tokenCount: tokens.count, divergence: comparison.agreement?.kl.mean ?? 0,
            agreement: Double(agreements) / Double(max(1, tokens.count)),
            recall: Recall(
                count: recalled.count, teacher: recalled.teacher, student: recalled.student, both: recalled.both))
    }

    /// Returns the positions at which a token recurs with the same successor as at its previous occurrence.
    static func queries(_ sequence: [Int]) -> Set<Int> {
        var last: [Int: Int] = [:]
        var places: Set<Int> = []
        for (place, token) in sequence.dropLast().enumerated() {
            if let before = last[token], sequence[before + 1] == sequence[place + 1] { places.insert(place) }
            last[token] = place
        }
        return places
    }
}
