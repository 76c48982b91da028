import RWKVNumerics
import Testing

@testable import RWKVLayers

/// Compares kernels with plain loops in double precision.
struct KernelTests {
    static let tables: [(KernelTable, InstructionSet)] = KernelTable.allCases.flatMap { table in
        InstructionSet.allCases.map { (table, $0) }
    }

    private func kernels(_ table: KernelTable, _ set: InstructionSet) -> Kernels<Float>? {
        Kernels<Float>(table, instructionSet: set, threads: 2)
    }

    private func matrix(_ numbers: [Double], columns: Int) -> Matrix<Float> {
        Matrix(numbers.map { Float($0) }, columns: columns)
    }

    private func near(_ found: [Float], _ expected: [Double], _ tolerance: Double = 2e-6) -> Bool {
        let size = expected.map(\.magnitude).max() ?? 0
        return found.count == expected.count
            && zip(found, expected).allSatisfy { (Double($0) - $1).magnitude <= tolerance * max(size, 1e-30) }
    }

    @Test("elementary functions, up to the limits of their range", arguments: tables)
    func elementary(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = kernels(table, set) else { return }
        var noise = Noise(state: 1)
        let inputs =
            noise.numbers(999, scale: 30) + noise.numbers(999, scale: 0.01)
            + [0, -0.0, 86.5, 87.2, 87.4, 88, 88.31, 88.4, 88.5, 88.69, 88.72, 89, 103, 500].flatMap { [$0, -$0] }
        func check(_ values: [Float], _ exact: (Double) -> Double) {
            #expect(values.count == inputs.count)
            for (x, y) in zip(inputs, values) {
                let expected = exact(Double(Float(x)))
                // A result that is denormal, or nearly so, can be zero.
                #expect((Double(y) - expected).magnitude <= 3e-7 * expected.magnitude + 2e-38, "of \(x)")
            }
        }
        let sigmoid = matrix(inputs, columns: 1)
        kernels.sigmoid(inPlace: sigmoid)
        check(sigmoid.array) { 1 / (1 + exponential(-$0)) }
        let tanh = matrix(inputs, columns: 1)
        kernels.tanh(inPlace: tanh)
        check(tanh.array) { x in
            // For small x, the Taylor series is used, because the difference a - b would lose precision.
            let (a, b) = (exponential(x.magnitude), exponential(-x.magnitude))
            let small = x - x * x * x / 3 + 2 * x * x * x * x * x / 15
            return x.magnitude < 1e-2
                ? small : x.magnitude > 100 ? (x < 0 ? -1 : 1) : (x < 0 ? -1 : 1) * (a - b) / (a + b)
        }
        let decay = matrix(inputs, columns: 1)
        let omega = kernels.decay(inPlace: decay, base: nil, returnsOmega: true)
        let softplus = { (z: Double) in z > 700 ? z : max(z, 0) + logarithm(1 + exponential(-z.magnitude)) }
        check(omega?.array ?? []) { -softplus(-$0) - 0.5 }
        check(decay.array) { exponential(-exponential(-softplus(-$0) - 0.5)) }
    }

    @Test("NaN stays NaN", arguments: tables)
    func notANumber(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = kernels(table, set) else { return }
        let nan = Matrix<Float>([.nan, 1, 2, 3], columns: 4)
        #expect(!kernels.areFinite(nan) && !kernels.areFinite(Matrix([1, .infinity], columns: 2)))
        #expect(kernels.areFinite(Matrix([1, -3e38], columns: 2)))
        let plain = Matrix<Float>([1, 2, 3, 4], columns: 4)
        let operations: [(Matrix<Float>) -> Matrix<Float>] = [
            { kernels.rmsNorm($0, weight: [1, 1, 1, 1], epsilon: 1e-6) },
            { kernels.layerNorm($0, weight: [1, 1, 1, 1], bias: [0, 0, 0, 0], epsilon: 1e-5) },
            { kernels.shifted(plain, previous: [0, 0, 0, 0], shares: [$0.array])[0] },
            { kernels.decay(inPlace: $0.copy(), base: nil, returnsOmega: true) ?? plain },
            { x in
                let decay = x.copy()
                _ = kernels.decay(inPlace: decay, base: [1, 1, 1, 1], returnsOmega: false)
                return decay
            },
            { kernels.mixed(plain, first: plain.copy(), share: $0, base: nil) },
            {
                kernels.keys(
                    inPlace: $0.copy(), iclr: plain.copy(), base: nil, removalScale: nil, mix: [1, 1, 1, 1], omega: nil,
                    size: 4)
            },
            { x in
                let k = x.copy()
                _ = kernels.keys(
                    inPlace: k, iclr: plain.copy(), base: nil, removalScale: nil, mix: [1, 1, 1, 1], omega: nil, size: 4
                )
                return k
            },
            { x in
                let a = x.copy()
                _ = kernels.keys(
                    inPlace: plain.copy(), iclr: a, base: nil, removalScale: nil, mix: [1, 1, 1, 1], omega: nil, size: 4
                )
                return a
            },
            { x in
                let y = x.copy()
                kernels.headOutputs(
                    inPlace: y, norm: .scale, bonus: ([1, 1, 1, 1], plain, plain, plain), gate: plain, size: 4)
                return y
            },
            { x in
                let y = plain.copy()
                kernels.headOutputs(
                    inPlace: y, norm: .layerNorm(weight: [1, 1, 1, 1], bias: [0, 0, 0, 0], epsilon: 1e-3),
                    bonus: ([1, 1, 1, 1], x, plain, plain), gate: plain, size: 4)
                return y
            },
            { x in
                let y = plain.copy()
                kernels.headOutputs(
                    inPlace: y, norm: .scale, bonus: ([1, 1, 1, 1], plain, plain, plain), gate: x, size: 4)
                return y
            },
        ]
        for operation in operations { #expect(!kernels.areFinite(operation(nan))) }
        for inPlace in [kernels.sigmoid, kernels.tanh, kernels.reluSquared, { kernels.softcap(inPlace: $0, cap: 3) }] {
            let x = nan.copy()
            inPlace(x)
            #expect(x.array[0].isNaN)
        }
        for gated in [kernels.swiGLU, kernels.geGLU] {
            let gate = nan.copy()
            gated(plain, gate)
            #expect(gate.array[0].isNaN)
        }
        // Scores that overflow to -infinity in the first block of keys must not affect the scores in the next block.
        var keys = [Float](repeating: 1, count: 520 * 4)
        for place in 0..<515 * 4 { keys[place] = -3e38 }
        let queries = Matrix<Float>(Array(repeating: 1e20, count: 20 * 4), columns: 4)
        let one = AttentionParameters(heads: 1, keyValueHeads: 1, scale: 0.5)
        let late = kernels.attention(queries, keys: keys, values: keys.map { _ in 1 }, one)
        if table == .fast { #expect(late.row(19) == [1, 1, 1, 1]) }
        for cap in [nil, 3.0] {
            let parameters = AttentionParameters(heads: 1, keyValueHeads: 1, scale: 0.5, softcap: cap)
            #expect(!kernels.areFinite(kernels.attention(plain, keys: nan.array, values: plain.array, parameters)))
            let many = Matrix<Float>(Array(repeating: .nan, count: queries.count), columns: 4)
            let attended = kernels.attention(many, keys: keys, values: keys.map { _ in 1 }, parameters)
            #expect(attended.array.allSatisfy { $0.isNaN })
        }
    }

    @Test("norms", arguments: tables)
    func norms(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = kernels(table, set) else { return }
        for width in [1, 5, 16, 33, 64] {
            var noise = Noise(state: UInt64(width))
            let (x, weight, bias) = (noise.numbers(3 * 2 * width), noise.numbers(2 * width), noise.numbers(2 * width))
            let (floats, biases) = (weight.map { Float($0) }, bias.map { Float($0) })
            let rows = (0..<6).map { Array(x[$0 * width..<($0 + 1) * width]) }
            let rms = rows.flatMap { row in
                let size = (row.reduce(0) { $0 + $1 * $1 } / Double(width) + 1e-3).squareRoot()
                return zip(row, weight).map { $0 / size * $1 }
            }
            #expect(
                near(
                    kernels.rmsNorm(matrix(x, columns: 2 * width), weight: Array(floats[..<width]), epsilon: 1e-3)
                        .array,
                    rms))
            let layer = rows.flatMap { row in
                let mean = row.reduce(0, +) / Double(width)
                let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
                return row.enumerated().map { place, value in
                    (value - mean) / (variance + 1e-3).squareRoot() * weight[place] + bias[place]
                }
            }
            #expect(
                near(
                    kernels.layerNorm(
                        matrix(x, columns: width), weight: Array(floats[..<width]), bias: Array(biases[..<width]),
                        epsilon: 1e-3
                    ).array, layer, 1e-5))
        }
    }

    @Test("doubles up to the limits of the exponential", arguments: InstructionSet.allCases)
    func doubles(_ set: InstructionSet) throws {
        guard let kernels = Kernels<Double>(.fast, instructionSet: set, threads: 1) else { return }
        let inputs = [0, 1e-9, 3, 30, 700, 708.2, 708.4, 709, 709.39, 709.41, 709.5, 709.7, 710, 1000].flatMap {
            [$0, -$0]
        }
        let values = Matrix(inputs, columns: 1)
        kernels.sigmoid(inPlace: values)
        for (x, y) in zip(inputs, values.array) {
            #expect((y - 1 / (1 + exponential(-x))).magnitude <= 1e-15 + 1e-300, "of \(x)")
        }
    }

    /// Checks matrices with enough rows for several threads.
    ///
    /// The numbers of columns are not multiples of the size of a vector.
    @Test("kernels of rows process all rows", arguments: tables)
    func manyRows(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = kernels(table, set) else { return }
        let (rows, heads, size) = (311, 13, 10)
        let columns = heads * size
        var noise = Noise(state: 9)
        func random(_ count: Int) -> [Double] { noise.numbers(count, scale: 2).map { Double(Float($0)) } }
        let (x, y) = (random(rows * columns), random(rows * columns))
        let vector = random(columns)
        let (floats, X) = (vector.map { Float($0) }, matrix(x, columns: columns))
        func Y() -> Matrix<Float> { matrix(y, columns: columns) }
        func each(_ value: (Int, Int) -> Double) -> [Double] {
            (0..<rows * columns).map { value($0, $0 % columns) }
        }
        func sigmoid(_ x: Double) -> Double { 1 / (1 + exponential(-x)) }
        func tanh(_ x: Double) -> Double { 2 * sigmoid(2 * x) - 1 }
        func check(_ what: String, _ found: Matrix<Float>, _ value: (Int, Int) -> Double) {
            #expect(near(found.array, each(value)), "\(what)")
        }
        var sum = Y()
        kernels.add(X, to: sum)
        check("sum", sum) { at, _ in x[at] + y[at] }
        sum = Y()
        kernels.add(bias: floats, to: sum)
        check("bias", sum) { y[$0] + vector[$1] }
        sum = Y()
        kernels.swiGLU(up: X, gate: sum)
        check("swiGLU", sum) { at, _ in y[at] * sigmoid(y[at]) * x[at] }
        sum = Y()
        kernels.geGLU(up: X, gate: sum)
        check("geGLU", sum) { at, _ in
            let z = y[at]
            return z / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (z + 0.044715 * z * z * z))) * x[at]
        }
        sum = Y()
        kernels.softcap(inPlace: sum, cap: 1.5)
        check("softcap", sum) { at, _ in 1.5 * tanh(y[at] / 1.5) }
        sum = Y()
        kernels.scale(inPlace: sum, by: 1.7)
        check("scale", sum) { at, _ in 1.7 * y[at] }
        sum = Y()
        kernels.reluSquared(inPlace: sum)
        check("relu squared", sum) { at, _ in max(y[at], 0) * max(y[at], 0) }
        let repeated = kernels.repeated(X, size: size, times: 3)
        #expect(repeated.columns == 3 * columns)
        #expect(
            repeated.array
                == (0..<rows * heads).flatMap { head in
                    (0..<3).flatMap { _ in X.array[head * size..<(head + 1) * size] }
                })
        let half = 4
        let (cosines, sines) = (random(rows * half), random(rows * half))
        let turned = X.copy()
        kernels.rotate(
            turned, size: size, cosines: matrix(cosines, columns: half), sines: matrix(sines, columns: half))
        check("rotation", turned) { at, column in
            let (channel, row) = (column % size, at / columns)
            switch channel {
            case ..<half: return x[at] * cosines[row * half + channel] - x[at + half] * sines[row * half + channel]
            case ..<(2 * half):
                let i = row * half + channel - half
                return x[at] * cosines[i] + x[at - half] * sines[i]
            default: return x[at]
            }
        }
        let neighbours = X.copy()
        kernels.rotate(
            neighbours, size: size, cosines: matrix(cosines, columns: half), sines: matrix(sines, columns: half),
            isInterleaved: true)
        check("rotation of neighbours", neighbours) { at, column in
            let (channel, row) = (column % size, at / columns)
            let i = row * half + channel / 2
            if channel >= 2 * half { return x[at] }
            return channel % 2 == 0
                ? x[at] * cosines[i] - x[at + 1] * sines[i] : x[at] * cosines[i] + x[at - 1] * sines[i]
        }
    }

    @Test("strict elementwise kernels give the same bits on every instruction set and for any number of threads")
    func bits() throws {
        func results(_ set: InstructionSet, threads: Int) -> [[Float]]? {
            guard let kernels = Kernels<Float>(.strict, instructionSet: set, threads: threads) else { return nil }
            let (rows, columns) = (311, 130)
            var noise = Noise(state: 3)
            let numbers = (0..<4).map { _ in noise.numbers(rows * columns, scale: 20) }
            let (x, y, up, gate) = (
                matrix(numbers[0], columns: columns), matrix(numbers[1], columns: columns),
                matrix(numbers[2], columns: columns), matrix(numbers[3], columns: columns)
            )
            let turned = y.copy()
            kernels.rotate(
                turned, size: 10, cosines: x.columns(0..<5), sines: x.columns(5..<10), isInterleaved: true)
            let capped = y.copy()
            kernels.softcap(inPlace: capped, cap: 7)
            let slopes = x.copy()
            kernels.softcapBackward(inPlace: slopes, capped, cap: 7)
            let gated = gate.copy()
            kernels.geGLU(up: up, gate: gated)
            kernels.geGLUBackward(x, up: up, gate: gate)
            let scaled = y.copy()
            kernels.scale(inPlace: scaled, by: 0.3)
            return [turned, capped, slopes, gated, up, gate, scaled].map(\.array)
        }
        let expected = try #require(results(.baseline, threads: 1))
        for set in InstructionSet.allCases {
            for threads in [1, 2] {
                let areSame = results(set, threads: threads) ?? expected == expected
                #expect(areSame, "\(set), \(threads) threads")
            }
        }
    }

    /// Checks matrices with as many rows as in `manyRows`.
    ///
    /// The sizes of the heads are not multiples of the size of a vector.
    @Test("the fused kernels of time mixing", arguments: tables)
    func timeMixing(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = kernels(table, set) else { return }
        let (rows, heads, size) = (311, 13, 10)
        let columns = heads * size
        var noise = Noise(state: 11)
        func random(_ count: Int) -> [Double] { noise.numbers(count, scale: 2).map { Double(Float($0)) } }
        func sigmoid(_ x: Double) -> Double { 1 / (1 + exponential(-x)) }
        let (x, y, z, u) = (
            random(rows * columns), random(rows * columns), random(rows * columns), random(rows * columns)
        )
        let (f, g, h) = (random(columns), random(columns), random(columns))
        let (F, G, H) = (f.map { Float($0) }, g.map { Float($0) }, h.map { Float($0) })
        func all(_ numbers: [Double]) -> Matrix<Float> { matrix(numbers, columns: columns) }
        func check(
            _ what: String, _ found: Matrix<Float>?, _ tolerance: Double = 2e-6, _ value: (Int, Int) -> Double
        ) {
            let expected = (0..<rows * columns).map { value($0, $0 % columns) }
            #expect(near(found?.array ?? [], expected, tolerance), "\(what)")
        }
        func length(_ at: Int, _ value: (Int) -> Double) -> Double {
            let start = at - at % size
            return (start..<start + size).reduce(0) { $0 + value($1) * value($1) }.squareRoot()
        }

        let shifted = kernels.shifted(all(x), previous: F, shares: [G, H])
        for (found, share) in zip(shifted, [g, h]) {
            check("shift", found) { at, column in
                let previous = at < columns ? f[column] : x[at - columns]
                return x[at] + (previous - x[at]) * share[column]
            }
        }

        let decay = all(x)
        let omega = kernels.decay(inPlace: decay, base: F, returnsOmega: true)
        check("omega", omega) { -logarithm(1 + exponential(-x[$0] - f[$1])) - 0.5 }
        check("decay", decay) { exponential(-exponential(-logarithm(1 + exponential(-x[$0] - f[$1])) - 0.5)) }

        for base in [F, nil] {
            check("residual", kernels.mixed(all(y), first: all(x), share: all(z), base: base)) { at, column in
                y[at] + (x[at] - y[at]) * sigmoid(z[at] + (base == nil ? 0 : f[column]))
            }
            for scale in [G, nil] {
                let (k, a) = (all(y), all(x))
                let removal = kernels.keys(
                    inPlace: k, iclr: a, base: base, removalScale: scale, mix: base == nil ? nil : H,
                    omega: base == nil ? all(z) : nil, size: size)
                func rate(_ at: Int) -> Double { sigmoid(x[at] + (base == nil ? 0 : f[at % columns])) }
                func scaled(_ at: Int) -> Double { y[at] * (scale == nil ? 1 : g[at % columns]) }
                check("iclr", a) { at, _ in rate(at) }
                check("removal key", removal) { at, _ in scaled(at) / length(at, scaled) }
                check("key", k) { at, column in
                    y[at] * (base == nil ? 1 - z[at] + rate(at) : 1 + (rate(at) - 1) * h[column])
                }
            }
        }
        let nothing = kernels.keys(
            inPlace: Matrix<Float>([0, 0], columns: 2), iclr: Matrix<Float>([0, 0], columns: 2), base: nil,
            removalScale: nil, mix: [1, 1], omega: nil, size: 2)
        #expect(nothing.array == [0, 0])

        let norms: [HeadOutputNorm<Float>] = [.layerNorm(weight: F, bias: G, epsilon: 1e-3), .scale, .none]
        for norm in norms {
            let found = all(y)
            kernels.headOutputs(
                inPlace: found, norm: norm, bonus: (H, all(x), all(z), all(u)), gate: all(z), size: size)
            check("output", found, 1e-5) { at, column in
                let head = at - at % size..<at - at % size + size
                let mean = head.reduce(0) { $0 + y[$1] } / Double(size)
                let variance = head.reduce(0) { $0 + (y[$1] - mean) * (y[$1] - mean) } / Double(size)
                let normed = (y[at] - mean) / (variance + 1e-3).squareRoot() * f[column] + g[column]
                let bonus = head.reduce(0) { $0 + x[$1] * z[$1] * h[$1 % columns] }
                let own =
                    switch norm {
                    case .layerNorm: normed
                    case .scale: y[at] / Double(size).squareRoot()
                    case .none: y[at]
                    }
                return (own + bonus * u[at]) * z[at]
            }
        }
    }
}
