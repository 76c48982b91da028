public import CheckpointFiles
import RWKVEvaluation
public import RWKVInference
public import RWKVNumerics

/// How a student does on tokens that it was not trained on.
public struct HeldOut: Sendable, Hashable {
    /// Tokens whose next ones were predicted.
    public let tokenCount: Int
    /// The mean divergence of the student's prediction from its teacher's, in nats.
    public let divergence: Double
    /// The share of tokens after which both find the same one most likely.
    public let agreement: Double
    /// What was to be recalled: tokens that came before, and are followed by what followed then.
    public let recall: Recall

    /// Recalled tokens.
    public struct Recall: Sendable, Hashable {
        /// How many there were.
        public let count: Int
        /// How many the teacher found most likely.
        public let teacher: Int
        /// How many the student did.
        public let student: Int
        /// How many both did: what others there were followed by chance.
        public let both: Int

        /// The share that the student recalls of what the teacher does; nil where that is nothing.
        public var accuracy: Double? { teacher == 0 ? nil : Double(both) / Double(teacher) }
    }
}

extension HeldOut {
    /// Runs both on sequences, from the start of each.
    ///
    /// - Parameters:
    ///   - teacher: a model.
    ///   - student: of the same vocabulary.
    ///   - tokens: the sequences.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    /// - Throws: ``CheckpointError``: `unsupported` where vocabularies differ, `malformed` where a token is in none; as models do.
    public init(
        _ teacher: Model<Float>, _ student: Model<Float>, _ tokens: TokenSequences, _ kernels: Kernels<Float>,
        progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        guard student.vocabulary == teacher.vocabulary else {
            throw CheckpointError(
                .unsupported, path: student.checkpoint.path,
                "it has another vocabulary than \(teacher.checkpoint.path)", expected: "\(teacher.vocabulary)",
                found: "\(student.vocabulary)")
        }
        try tokens.check(vocabulary: teacher.vocabulary)
        var comparison = LogitsComparison()
        var agreements = 0
        var recalled = (count: 0, teacher: 0, student: 0, both: 0)
        for sequence in tokens.sequences {
            let queries = Self.queries(sequence)
            var states = (teacher.start(length: sequence.count), student.start(length: sequence.count))
            for part in sequence.count.parts(of: tokensTogether) {
                let ids = Array(sequence[part])
                let theirs = try teacher.hidden(ids, &states.0, kernels, progress: progress)
                let own = try student.hidden(ids, &states.1, kernels, progress: progress)
                for rows in ids.count.parts(of: logitsTogether) {
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

    /// The places of tokens that came before, and are followed by what followed the last time.
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
