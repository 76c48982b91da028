import RWKVNumerics
import Testing

/// Tests attention and its gradients.
///
/// Attention is compared with plain loops in double precision, gradients are compared with finite differences, and the
/// bits of whole sequences are compared with the bits of their parts.
struct AttentionTests {
    private static let heads = 4
    private static let keyValueHeads = 2
    /// Parameters with windows that are shorter and longer than a tile of queries and a tile of keys.
    private static let all: [AttentionParameters] = [
        (nil, nil), (1, nil), (7, 2), (64, nil), (100, 2), (600, nil), (5000, nil), (nil, 2),
    ].map { window, softcap in
        AttentionParameters(
            heads: heads, keyValueHeads: keyValueHeads, scale: 0.3, window: window, softcap: softcap)
    }

    /// The queries, keys and values of several concatenated sequences.
    private struct Inputs {
        let size, sequences: Int
        let queries, keys, values: [Double]

        init(tokens: Int, past: Int = 0, size: Int, sequences: Int = 1) {
            var noise = Noise(state: UInt64(tokens))
            (self.size, self.sequences) = (size, sequences)
            queries = noise.numbers(sequences * tokens * AttentionTests.heads * size, scale: 2)
            let count = sequences * (past + tokens) * AttentionTests.keyValueHeads * size
            (keys, values) = (noise.numbers(count, scale: 2), noise.numbers(count))
        }

        var wide: Int { AttentionTests.heads * size }
        var narrow: Int { AttentionTests.keyValueHeads * size }
        var tokens: Int { queries.count / wide / sequences }
        var known: Int { keys.count / narrow / sequences }

        func rows<Element: Real>(_ numbers: [Double], _ range: Range<Int>, width: Int) -> [Element] {
            let length = numbers.count / sequences
            return (0..<sequences).flatMap { sequence in
                (range.lowerBound * width..<range.upperBound * width).map { Element(numbers[sequence * length + $0]) }
            }
        }

        /// Computes the attention of the queries in a range, with the keys from `first` to the key of the last query.
        func attention<Element: Real>(
            _ kernels: Kernels<Element>, _ range: Range<Int>, first: Int = 0, _ parameters: AttentionParameters
        ) -> Matrix<Element> {
            let seen = first..<known - tokens + range.upperBound
            return kernels.attention(
                Matrix(rows(queries, range, width: wide), columns: wide), keys: rows(keys, seen, width: narrow),
                values: rows(values, seen, width: narrow), parameters, sequences: sequences)
        }

        /// Computes the attention of all queries with plain loops.
        func plain(_ parameters: AttentionParameters) -> [Double] {
            var y: [Double] = []
            for row in 0..<sequences * tokens {
                let (sequence, token) = (row / tokens, row % tokens)
                let last = known - tokens + token
                let seen = max(0, last + 1 - (parameters.window ?? known))...last
                for head in 0..<wide / size {
                    let shared = sequence * known * narrow + head / (wide / narrow) * size
                    let scores = seen.map { other in
                        let score = (0..<size).reduce(0.0) { sum, channel in
                            sum + queries[row * wide + head * size + channel] * keys[shared + other * narrow + channel]
                        }
                        let scaled = parameters.scale * score
                        return parameters.softcap.map { $0 * tanh(scaled / $0) } ?? scaled
                    }
                    let largest = scores.max() ?? 0
                    let weights = scores.map { exponential($0 - largest) }
                    let total = weights.reduce(0, +)
                    for channel in 0..<size {
                        y.append(
                            zip(seen, weights).reduce(0) { sum, other in
                                sum + other.1 / total * values[shared + other.0 * narrow + channel]
                            })
                    }
                }
            }
            return y
        }

        private func tanh(_ x: Double) -> Double { 2 / (1 + exponential(-2 * x)) - 1 }
    }

    private func near<Element: Real>(_ found: [Element], _ expected: [Double], _ tolerance: Double) -> Bool {
        let size = expected.map(\.magnitude).max() ?? 0
        return found.count == expected.count
            && zip(found, expected).allSatisfy { (Double($0) - $1).magnitude <= tolerance * size }
    }

    @Test("is right with any window and cap, over blocks of queries and keys", arguments: KernelTests.tables)
    func forward(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let floats = Kernels<Float>(table, instructionSet: set, threads: 2),
            let doubles = Kernels<Double>(table, instructionSet: set, threads: 2)
        else { return }
        for (tokens, past, size, sequences) in [
            (1, 0, 16, 1), (1, 9, 5, 1), (9, 0, 8, 1), (70, 3, 16, 2), (130, 0, 12, 1), (9, 1030, 8, 1),
            (70, 480, 16, 1), (70, 700, 3, 1), (3, 700, 8, 2),
        ] {
            let inputs = Inputs(tokens: tokens, past: past, size: size, sequences: sequences)
            for parameters in Self.all {
                let expected = inputs.plain(parameters)
                let (found, exact) = (
                    inputs.attention(floats, 0..<tokens, parameters).array,
                    inputs.attention(doubles, 0..<tokens, parameters).array
                )
                #expect(near(found, expected, 3e-6), "\(tokens) tokens after \(past), \(parameters)")
                #expect(near(exact, expected, 1e-14), "\(tokens) tokens after \(past), \(parameters), doubles")
            }
        }
    }

    /// Compares the bits of whole sequences, parts of sequences and single tokens.
    ///
    /// The cache contains either all keys or only the keys in the window.
    private func bits<Element: Real>(_: Element.Type) throws {
        let (tokens, inputs) = (150, Inputs(tokens: 150, size: 12, sequences: 2))
        let divisions = [[0..<150], [0..<1, 1..<9, 9..<150], [0..<70, 70..<150], (0..<150).map { $0..<$0 + 1 }]
        let strict = try #require(Kernels<Element>(.strict, instructionSet: .baseline, threads: 1))
        let tables = InstructionSet.allCases.flatMap { set in
            [1, 2].compactMap { Kernels<Element>(.strict, instructionSet: set, threads: $0) }
        }
        for parameters in Self.all {
            let whole = inputs.attention(strict, 0..<tokens, parameters)
            for part in divisions.joined() {
                let expected = [0, tokens].flatMap { whole.rows(part.lowerBound + $0..<part.upperBound + $0).array }
                let firstSeen = max(0, part.lowerBound + 1 - (parameters.window ?? tokens))
                for kernels in tables {
                    for first in Set([0, firstSeen]) {
                        let isSame = inputs.attention(kernels, part, first: first, parameters).array == expected
                        #expect(isSame, "\(part), keys from \(first) on, \(kernels.instructionSet), \(parameters)")
                    }
                }
            }
        }
    }

    @Test("strict gives the same bits for parts of a sequence, single tokens and trimmed caches")
    func strictBits() throws {
        try bits(Float.self)
        try bits(Double.self)
    }

    /// Sets the keys and values that no query sees to NaN, which would spread to the output if they were read.
    @Test("keys that no query of a tile sees are not read", arguments: KernelTests.tables)
    func unseen(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 2) else { return }
        let parameters = AttentionParameters(
            heads: Self.heads, keyValueHeads: Self.keyValueHeads, scale: 0.3, window: 100)
        let inputs = Inputs(tokens: 64, past: 900, size: 8)
        var (keys, values): ([Float], [Float]) = (
            inputs.rows(inputs.keys, 0..<964, width: inputs.narrow),
            inputs.rows(inputs.values, 0..<964, width: inputs.narrow)
        )
        let queries = Matrix<Float>(inputs.rows(inputs.queries, 0..<64, width: inputs.wide), columns: inputs.wide)
        for place in 0..<801 * inputs.narrow { (keys[place], values[place]) = (.nan, .nan) }
        #expect(kernels.areFinite(kernels.attention(queries, keys: keys, values: values, parameters)))
        keys[801 * inputs.narrow] = .nan
        #expect(!kernels.areFinite(kernels.attention(queries, keys: keys, values: values, parameters)))
    }

    /// Parameters for gradients, with windows that are shorter and longer than a tile of queries.
    private static let trained: [AttentionParameters] = [(nil, nil), (20, nil), (64, 2), (90, nil), (nil, 2)].map {
        AttentionParameters(heads: heads, keyValueHeads: keyValueHeads, scale: 0.3, window: $0, softcap: $1)
    }

    private func gradients(
        _ kernels: Kernels<Double>, _ inputs: Inputs, _ parameters: AttentionParameters
    ) -> (dy: [Double], inputs: [Matrix<Double>], gradients: [Matrix<Double>]) {
        var noise = Noise(state: 4)
        let dy = Matrix(noise.numbers(inputs.queries.count), columns: inputs.wide)
        let (queries, keys, values) = (
            Matrix(inputs.queries, columns: inputs.wide), Matrix(inputs.keys, columns: inputs.narrow),
            Matrix(inputs.values, columns: inputs.narrow)
        )
        let gradients = kernels.attentionBackward(
            dy, queries: queries, keys: keys, values: values, parameters, sequences: inputs.sequences)
        return (dy.array, [queries, keys, values], [gradients.queries, gradients.keys, gradients.values])
    }

    @Test("gradients are slopes", arguments: KernelTable.allCases, trained)
    func slopes(_ table: KernelTable, _ parameters: AttentionParameters) throws {
        let kernels = try #require(Kernels<Double>(table, threads: 2))
        let inputs = Inputs(tokens: 150, size: 8, sequences: 2)
        let (dy, xs, dxs) = gradients(kernels, inputs, parameters)
        for (x, dx) in zip(xs, dxs) {
            let before = x.array
            var noise = Noise(state: 9)
            let direction = noise.numbers(x.count)
            func moved(_ step: Double) -> Double {
                x.replaceRows(from: 0, by: Matrix(zip(before, direction).map { $0 + step * $1 }, columns: x.columns))
                let y = kernels.attention(
                    xs[0], keys: xs[1].array, values: xs[2].array, parameters, sequences: inputs.sequences)
                return zip(y.array, dy).reduce(0) { $0 + $1.0 * $1.1 }
            }
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
            _ = moved(0)
            let slope = zip(dx.array, direction).reduce(0) { $0 + $1.0 * $1.1 }
            let norm = dx.array.reduce(0) { $0 + $1 * $1 }.squareRoot()
            #expect(abs(difference - slope) < 1e-7 * norm)
        }
    }

    @Test("strict gradients have the same bits everywhere, and fast ones are close to them", arguments: trained)
    func gradientBits(_ parameters: AttentionParameters) throws {
        let inputs = Inputs(tokens: 150, size: 8, sequences: 2)
        let strict = try #require(Kernels<Double>(.strict, instructionSet: .baseline, threads: 1))
        let expected = gradients(strict, inputs, parameters).gradients
        for (table, set) in KernelTests.tables {
            for threads in [1, 2] {
                guard let kernels = Kernels<Double>(table, instructionSet: set, threads: threads) else { continue }
                for (found, expected) in zip(gradients(kernels, inputs, parameters).gradients, expected) {
                    let isAlike =
                        table == .strict
                        ? found.array == expected.array : near(found.array, expected.array, 1e-13)
                    #expect(isAlike, "\(table), \(set)")
                }
            }
        }
    }
}
