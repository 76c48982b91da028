import RWKVNumerics
import Testing

@testable import RWKVEvaluation

/// Compares the statistics of logits with values computed directly from their formulas.
struct LogitsComparisonTests {
    private func rows(_ count: Int, _ vocabulary: Int, seed: UInt64) -> [[Double]] {
        var state = seed
        return (0..<count).map { _ in
            (0..<vocabulary).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return Double(state >> 11) / Double(1 << 53) * 8 - 4
            }
        }
    }

    private func logSoftmax(_ row: [Double]) -> [Double] {
        let sum = logarithm(row.reduce(0) { $0 + exponential($1) })
        return row.map { $0 - sum }
    }

    private func top(_ row: [Double], _ count: Int) -> [Int] {
        Array(row.indices.sorted { (row[$0], -$0) > (row[$1], -$1) }.prefix(count))
    }

    private func isNear(_ a: Double?, _ b: Double) -> Bool {
        ((a ?? .nan) - b).magnitude <= 1e-12 * max(1, b.magnitude)
    }

    @Test("every figure agrees with its formula", arguments: [(1, 7), (3, 2), (40, 5), (200, 99)])
    func figures(_ count: Int, _ vocabulary: Int) throws {
        let reference = rows(count, vocabulary, seed: 1)
        let noise = rows(count, vocabulary, seed: 2)
        let candidate = zip(reference, noise).map { zip($0, $1).map { $0 + $1 * 0.02 } }
        let tokens = (0..<count).map { ($0 * 7 + 3) % vocabulary }
        var comparison = LogitsComparison()
        for place in 0..<count {
            let best = reference[place].withUnsafeBufferPointer { a in
                candidate[place].withUnsafeBufferPointer { b in
                    comparison.add(a, b, next: place + 1 < count ? tokens[place + 1] : nil)
                }
            }
            #expect(best.reference == top(reference[place], 1)[0] && best.candidate == top(candidate[place], 1)[0])
        }
        let found = try #require(comparison.agreement)

        let (a, b) = (reference.flatMap { $0 }, candidate.flatMap { $0 })
        let squares = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        let mean = a.reduce(0, +) / Double(a.count)
        #expect(isNear(found.nmse, squares / a.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }))
        #expect(isNear(found.maximumDifference, zip(a, b).map { ($0 - $1).magnitude }.max() ?? 0))

        let logs = zip(reference, candidate).map { (logSoftmax($0), logSoftmax($1)) }
        let divergences = logs.map { p, q in zip(p, q).reduce(0) { $0 + exponential($1.0) * ($1.0 - $1.1) } }.sorted()
        #expect(isNear(found.kl.mean, divergences.reduce(0, +) / Double(count)))
        #expect(isNear(found.kl.median, divergences[count / 2]) && isNear(found.kl.maximum, divergences[count - 1]))
        #expect(isNear(found.kl.p99, divergences[min(count - 1, count * 99 / 100)]))

        let error = (squares / Double(a.count)).squareRoot()
        let clear = (0..<count).filter { place in
            let best = top(reference[place], 2).map { reference[place][$0] }
            return best[0] - best[1] > 4 * error
        }
        let same = clear.filter { top(reference[$0], 1) == top(candidate[$0], 1) }
        #expect(found.clearCount == clear.count && found.tokenCount == count)
        #expect(clear.isEmpty ? found.top1 == nil : isNear(found.top1, Double(same.count) / Double(clear.count)))
        let five = min(5, vocabulary)
        let common = (0..<count).map { place in
            Double(Set(top(reference[place], five)).intersection(top(candidate[place], five)).count) / Double(five)
        }
        #expect(isNear(found.top5, common.reduce(0, +) / Double(count)))

        guard count > 1 else {
            #expect(found.perplexity == nil)
            return
        }
        let likelihood = (0..<count - 1).map { (logs[$0].0[tokens[$0 + 1]], logs[$0].1[tokens[$0 + 1]]) }
        #expect(
            isNear(found.perplexity?.reference, exponential(-likelihood.reduce(0) { $0 + $1.0 } / Double(count - 1))))
        #expect(
            isNear(found.perplexity?.candidate, exponential(-likelihood.reduce(0) { $0 + $1.1 } / Double(count - 1))))
    }

    @Test("one token in the vocabulary, and identical logits")
    func edges() throws {
        var comparison = LogitsComparison()
        #expect(comparison.agreement == nil)
        let row = [2.5]
        row.withUnsafeBufferPointer { _ = comparison.add($0, $0, next: 0) }
        let found = try #require(comparison.agreement)
        #expect(found.nmse == 0 && found.kl.maximum == 0 && found.top1 == 1 && found.top5 == 1)
        #expect(found.perplexity?.reference == 1)
    }
}
