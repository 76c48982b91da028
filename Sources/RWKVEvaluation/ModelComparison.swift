import Bytes
import CRWKVKernels
import CheckpointFiles
import ModelFamilies
import RWKVInference
import RWKVLayers
import RWKVNumerics
import TokenFiles

/// A comparison of a candidate with a reference, which runs both models side by side.
///
/// Memory holds only the activations of the current chunk of tokens.
struct ModelComparison {
    private let candidate: Model<Float>
    private let tokens: TokenSequences
    private let kernels: Kernels<Float>
    private let progress: WorkProgress

    private(set) var logits = LogitsComparison()
    /// The number of leading tokens on which both models agree when they continue the first sequence greedily.
    private(set) var greedyAgreement: Int?
    /// The agreement of the blocks; nil if the blocks cannot be compared.
    private(set) var blocks: Verification.BlockAgreement?

    /// The maximum number of tokens to generate greedily.
    private static let continuation = 32

    init(_ candidate: Model<Float>, _ tokens: TokenSequences, _ kernels: Kernels<Float>, _ progress: WorkProgress) {
        self.candidate = candidate
        self.tokens = tokens
        self.kernels = kernels
        self.progress = progress
    }

    // MARK: Recorded logits

    /// Compares the candidate's logits with logits that were recorded for the same tokens.
    mutating func compare(with recorded: RecordedLogits) throws {
        try checkVocabulary(recorded.vocabulary, path: recorded.path)
        let row = UnsafeMutableBufferPointer<Double>.allocate(capacity: recorded.vocabulary)
        defer { row.deallocate() }
        for (number, sequence) in tokens.sequences.enumerated() {
            var state = candidate.start(length: sequence.count)
            try candidate.run(sequence, &state, kernels, progress: progress) { start, own in
                for position in 0..<own.rows {
                    let place = start + position
                    try recorded.row(sequence: number, position: place, into: row)
                    guard row.allSatisfy(\.isFinite) else {
                        throw CheckpointError(
                            .malformed, path: recorded.path,
                            "recorded logits are not finite: token \(place) of sequence \(number)")
                    }
                    add(UnsafeBufferPointer(row), own, row: position, sequence, place)
                }
                progress.advance(by: own.rows, of: tokens.count)
            }
        }
    }

    private func checkVocabulary(_ count: Int, path: String) throws(CheckpointError) {
        guard candidate.vocabulary == count else {
            throw CheckpointError(
                .unsupported, path: candidate.checkpoint.path, "the vocabulary size differs from that of \(path)",
                expected: "\(count)", found: "\(candidate.vocabulary)")
        }
    }

    /// Adds the logits of one token, and returns the most likely next token according to each model.
    @discardableResult
    private mutating func add(
        _ reference: UnsafeBufferPointer<Double>, _ own: Matrix<Float>, row: Int, _ sequence: [Int], _ place: Int
    ) -> (reference: Int, candidate: Int) {
        let next = place + 1 < sequence.count ? sequence[place + 1] : nil
        return withDoubles(of: own, row: row) { logits.add(reference, $0, next: next) }
    }

    // MARK: Models

    private struct LayerComparison {
        var stream = StreamComparison()
        var mixer = StreamComparison()
        var mlp = StreamComparison()
    }

    /// The states of the three runs: the reference, the candidate on its own residual stream, and the candidate on the
    /// reference's residual stream.
    private struct States {
        var reference: Model<Float>.State
        var own: Model<Float>.State
        /// The state of the candidate when it runs on the reference's residual stream.
        var guided: Model<Float>.State
    }

    /// Compares the candidate with a model.
    ///
    /// The blocks are compared too if both models have the same number of layers and the same width.
    mutating func compare(with reference: Model<Float>) throws {
        try checkVocabulary(reference.vocabulary, path: reference.checkpoint.path)
        let hasSameLayers = reference.layers.count == candidate.layers.count && reference.width == candidate.width
        var layers = candidate.layers.map { _ in LayerComparison() }
        var embedding = StreamComparison()
        var head = StreamComparison()
        for (number, sequence) in tokens.sequences.enumerated() {
            var states = States(
                reference: reference.start(length: sequence.count), own: candidate.start(length: sequence.count),
                guided: candidate.start(length: sequence.count))
            var last: (Int, Int) = (0, 0)
            for part in sequence.count.parts(of: tokensPerChunk) {
                let ids = Array(sequence[part])
                let (theirs, own): (Matrix<Float>, Matrix<Float>)
                if hasSameLayers {
                    (theirs, own) = try run(ids, reference, &states, &layers, &embedding)
                } else {
                    theirs = try reference.hidden(ids, &states.reference, kernels, progress: progress)
                    own = try candidate.hidden(ids, &states.own, kernels, progress: progress)
                }
                for rows in ids.count.parts(of: logitRowsPerChunk) {
                    let expected = try reference.logits(theirs.rows(rows), kernels)
                    let found = try candidate.logits(own.rows(rows), kernels)
                    if hasSameLayers {
                        head.add(expected, try candidate.logits(theirs.rows(rows), kernels))
                    }
                    for row in 0..<rows.count {
                        let place = part.lowerBound + rows.lowerBound + row
                        last = withDoubles(of: expected, row: row) { add($0, found, row: row, sequence, place) }
                    }
                    progress.advance(by: rows.count, of: tokens.count)
                }
            }
            if number == 0 { try continueGreedily(reference, states, last) }
        }
        guard hasSameLayers else { return }
        let agreements = layers.enumerated().map { number, layer in
            Verification.LayerAgreement(
                kinds: (reference.description.kinds[number], candidate.description.kinds[number]),
                relativeError: layer.stream.relativeError, cosine: layer.stream.cosine,
                mixerError: layer.mixer.relativeError, mlpError: layer.mlp.relativeError)
        }
        blocks = .init(
            layers: agreements, embeddingError: embedding.relativeError, headError: head.relativeError)
    }

    /// Runs tokens through all layers of both models, compares the blocks, and returns both residual streams.
    private func run(
        _ tokens: [Int], _ reference: Model<Float>, _ states: inout States, _ layers: inout [LayerComparison],
        _ embedding: inout StreamComparison
    ) throws -> (Matrix<Float>, Matrix<Float>) {
        var theirs = try LayerPass(
            reference, try reference.embedded(tokens, kernels), taking: &states.reference, kernels)
        var own = try LayerPass(
            candidate, try candidate.embedded(tokens, kernels), taking: &states.own, kernels, progress: progress)
        var guided = try LayerPass(
            candidate, theirs.stream, taking: &states.guided, kernels, checksNumbers: false)
        embedding.add(theirs.stream, own.stream)
        while try theirs.next(), try own.next(), try guided.next() {
            let mixerOutput = theirs.mixerBranch()
            layers[own.number].mixer.add(mixerOutput, guided.mixerBranch())
            own.add(own.mixerBranch())
            theirs.add(mixerOutput)

            let feedForwardOutput = theirs.feedForwardBranch()
            layers[own.number].mlp.add(feedForwardOutput, guided.feedForwardBranch())
            own.add(own.feedForwardBranch())
            theirs.add(feedForwardOutput)
            layers[own.number].stream.add(theirs.stream, own.stream)
        }
        let streams = (theirs.stream, own.stream)
        theirs.finish(&states.reference)
        own.finish(&states.own)
        guided.finish(&states.guided)
        return streams
    }

    /// Continues the first sequence greedily with both models, until their tokens differ or the maximum number is
    /// reached.
    private mutating func continueGreedily(
        _ reference: Model<Float>, _ states: States, _ last: (Int, Int)
    ) throws {
        var (theirs, own) = (states.reference, states.own)
        var (a, b) = last
        var count = 0
        while a == b, count < Self.continuation {
            count += 1
            a = try next(reference, a, &theirs)
            b = try next(candidate, b, &own)
        }
        greedyAgreement = count
    }

    private func next(
        _ model: Model<Float>, _ token: Int, _ state: inout Model<Float>.State
    ) throws -> Int {
        let logits = try model.logits(try model.hidden([token], &state, kernels), kernels).row(0)
        return logits.indices.max { logits[$0] < logits[$1] } ?? 0
    }
}
