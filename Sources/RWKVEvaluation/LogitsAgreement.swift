import CRWKVKernels
import RWKVInference
package import RWKVNumerics

/// The agreement of a candidate's logits with those of a reference over all tokens.
public struct LogitsAgreement: Sendable {
    /// The number of tokens whose logits were compared.
    public let tokenCount: Int
    /// The maximum absolute difference between a logit of the candidate and the same logit of the reference.
    public let maximumDifference: Double
    /// The normalised mean squared error: the mean squared error divided by the variance of the reference's logits.
    ///
    /// The NMSE is infinite if the variance is zero and the error is not.
    public let nmse: Double
    /// Statistics, over all tokens, of the KL divergence in nats of the candidate's next-token distribution from the
    /// reference's.
    public let kl: (mean: Double, median: Double, p99: Double, maximum: Double)
    /// The top-1 agreement: the fraction of the ``clearCount`` tokens at which both models have the same first choice;
    /// nil if there are no such tokens.
    public let top1: Double?
    /// The number of tokens at which the reference has a clear first choice.
    ///
    /// The choice is clear if the largest logit exceeds the second largest by more than four times the root mean square
    /// error of the logits.
    public let clearCount: Int
    /// The mean fraction of the reference's five most likely next tokens that are also among the candidate's top five.
    public let top5: Double
    /// The perplexity of each model: exp of the mean negative log-likelihood of the next tokens; nil if there are no
    /// next tokens.
    public let perplexity: (reference: Double, candidate: Double)?
    /// The number of leading tokens on which both models agree in greedy generation; nil if this was not measured.
    public internal(set) var greedyAgreement: Int?
}

/// A running comparison of logits, updated with one token at a time.
package struct LogitsComparison {
    private var divergences: [Double] = []
    private var choices: [(margin: Double, isSame: Bool)] = []
    private var numberCount = 0
    private var maximumDifference = 0.0
    private var squaredDifferences = 0.0
    private var sum = 0.0
    private var squares = 0.0
    private var top5 = 0.0
    private var followerCount = 0
    private var logLikelihood = (reference: 0.0, candidate: 0.0)
    private let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee

    /// Creates a comparison with no tokens.
    package init() {}

    /// Adds the logits of one token, which are in the same row of both matrices.
    ///
    /// - Returns: the most likely next token according to each model.
    package mutating func add(
        _ reference: Matrix<Float>, _ candidate: Matrix<Float>, row: Int, next: Int?
    ) -> (reference: Int, candidate: Int) {
        withDoubles(of: reference, row: row) { reference in
            withDoubles(of: candidate, row: row) { add(reference, $0, next: next) }
        }
    }

    /// Adds the logits of one token.
    ///
    /// - Parameters:
    ///   - reference: the logits of the reference, which must all be finite.
    ///   - candidate: the logits of the candidate, which must all be finite and have the same count.
    ///   - next: the token that follows in the sequence, which must be in the vocabulary; nil if there is none.
    /// - Returns: the most likely next token according to each model.
    @discardableResult
    mutating func add(
        _ reference: UnsafeBufferPointer<Double>, _ candidate: UnsafeBufferPointer<Double>, next: Int?
    ) -> (reference: Int, candidate: Int) {
        precondition(candidate.count == reference.count && next.map { reference.indices ~= $0 } ?? true)
        var row = rwkv_logits_comparison()
        kernels.compare_logits(reference.baseAddress, candidate.baseAddress, reference.count, &row)
        // Rounding errors can make the divergence slightly negative.
        divergences.append(row.divergence < 0 ? 0 : row.divergence)
        choices.append((row.margin, row.top_a.0 == row.top_b.0))
        numberCount += reference.count
        maximumDifference = max(maximumDifference, row.largest_difference)
        squaredDifferences += row.squared_differences
        sum += row.sum_of_a
        squares += row.squares_of_a
        let top = { (top: (Int64, Int64, Int64, Int64, Int64)) in
            Set([top.0, top.1, top.2, top.3, top.4].filter { $0 >= 0 })
        }
        let best = top(row.top_a)
        top5 += Double(best.intersection(top(row.top_b)).count) / Double(best.count)
        if let next {
            followerCount += 1
            logLikelihood.reference += reference[next] - row.log_sum_a
            logLikelihood.candidate += candidate[next] - row.log_sum_b
        }
        return (Int(row.top_a.0), Int(row.top_b.0))
    }

    /// The agreement over all tokens added so far; nil if there are none.
    package var agreement: LogitsAgreement? {
        guard !divergences.isEmpty else { return nil }
        let count = Double(divergences.count)
        let sorted = divergences.sorted()
        let variance = squares - sum * sum / Double(numberCount)
        let error = (squaredDifferences / Double(numberCount)).squareRoot()
        let clear = choices.filter { $0.margin > 4 * error }
        let perplexity: (reference: Double, candidate: Double)? =
            followerCount == 0
            ? nil
            : (
                rwkv_exp(-logLikelihood.reference / Double(followerCount)),
                rwkv_exp(-logLikelihood.candidate / Double(followerCount))
            )
        return LogitsAgreement(
            tokenCount: divergences.count, maximumDifference: maximumDifference,
            nmse: squaredDifferences == 0 ? 0 : variance > 0 ? squaredDifferences / variance : .infinity,
            kl: (
                mean: divergences.reduce(0, +) / count, median: sorted[sorted.count / 2],
                p99: sorted[min(sorted.count - 1, Int((0.99 * count).rounded(.down)))],
                maximum: sorted[sorted.count - 1]
            ),
            top1: clear.isEmpty ? nil : Double(clear.count(where: \.isSame)) / Double(clear.count),
            clearCount: clear.count, top5: top5 / count, perplexity: perplexity)
    }
}

/// Calls a closure with the numbers of one row, converted to doubles.
func withDoubles<Result>(
    of matrix: Matrix<Float>, row: Int, _ body: (UnsafeBufferPointer<Double>) -> Result
) -> Result {
    withUnsafeTemporaryAllocation(of: Double.self, capacity: matrix.columns) { doubles in
        matrix.withRow(row) {
            rwkv_kernels_for(rwkv_best_instruction_set()).pointee.to_doubles(
                RWKV_ELEMENT_F32, $0.baseAddress, matrix.columns, doubles.baseAddress)
        }
        return body(UnsafeBufferPointer(doubles))
    }
}

/// A running comparison of two streams of numbers, updated with one pair of matrices at a time.
struct StreamComparison {
    private var sums = rwkv_comparison()
    private static let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee

    /// Adds numbers from the reference, and the corresponding numbers from the candidate.
    mutating func add(_ reference: Matrix<Float>, _ candidate: Matrix<Float>) {
        precondition(reference.count == candidate.count, "matrices of different sizes")
        let size = 1 << 14
        reference.withNumbers { reference in
            candidate.withNumbers { candidate in
                withUnsafeTemporaryAllocation(of: Double.self, capacity: 2 * size) { doubles in
                    guard let a = doubles.baseAddress else { return }
                    let b = a + size
                    for part in reference.count.parts(of: size) {
                        Self.kernels.to_doubles(
                            RWKV_ELEMENT_F32, reference.baseAddress.map { $0 + part.lowerBound }, part.count, a)
                        Self.kernels.to_doubles(
                            RWKV_ELEMENT_F32, candidate.baseAddress.map { $0 + part.lowerBound }, part.count, b)
                        Self.kernels.compare(a, b, part.count, &sums)
                    }
                }
            }
        }
    }

    /// The norm of the difference divided by the norm of the reference.
    ///
    /// The error is infinite if the reference is zero and the difference is not, or if any number is not finite.
    var relativeError: Double {
        if sums.incomparable > 0 { return .infinity }
        if sums.squared_differences == 0 { return 0 }
        return sums.squares_of_a > 0 ? (sums.squared_differences / sums.squares_of_a).squareRoot() : .infinity
    }

    /// The cosine similarity of the two streams; nil if either is zero.
    var cosine: Double? {
        let lengths = (sums.squares_of_a * sums.squares_of_b).squareRoot()
        return lengths > 0 ? sums.products / lengths : nil
    }
}
