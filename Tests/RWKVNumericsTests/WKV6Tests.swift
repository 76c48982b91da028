import RWKVNumerics
import Testing

/// Compares the recurrence of RWKV-5 and RWKV-6 with plain loops in double precision, and its gradients with finite
/// differences.
struct WKV6Tests {
    /// Decays at the limits of real models: one that clears the state, the floor of RAD-RWKV6, and almost one.
    private static let decays = [0, 1e-30, 0.0067379469990854671, 0.5, 1 - 1e-4, 1]

    /// Returns random inputs for concatenated sequences; a fixed decay has one row.
    private func inputs(
        rows: Int, columns: Int, isFixed: Bool, hasBonus: Bool
    ) -> WKV6Inputs<Double> {
        var noise = Noise(state: UInt64(rows * 1009 + columns))
        func random(_ rows: Int) -> Matrix<Double> { Matrix(noise.numbers(rows * columns), columns: columns) }
        let decays = random(isFixed ? 1 : rows).array.map { x in
            x > 0 ? x : Self.decays[Int(-x * Double(Self.decays.count)) % Self.decays.count]
        }
        return WKV6Inputs(
            r: random(rows), w: Matrix(decays, columns: columns), k: random(rows), v: random(rows),
            bonus: hasBonus ? random(1).array : nil)
    }

    /// Computes the recurrence with plain loops.
    ///
    /// With a bonus u, y = S^T r + (r . u k) v and then S = diag(w) S + k v^T. Without one, y = S^T r after the update.
    private func reference(
        _ inputs: WKV6Inputs<Double>, size: Int, states: inout [Double], sequences: Int
    ) -> [Double] {
        let (rows, columns) = (inputs.r.rows, inputs.r.columns)
        let (r, w, k, v) = (inputs.r.array, inputs.w.array, inputs.k.array, inputs.v.array)
        var y = [Double](repeating: 0, count: rows * columns)
        for row in 0..<rows {
            for channel in 0..<columns {
                let (head, at) = (channel / size, row * columns)
                let state = (row / (rows / sequences) * columns + head * size) * size + channel % size
                for key in 0..<size {
                    let (place, from) = (state + key * size, head * size + key)
                    let old = states[place]
                    let added = k[at + from] * v[at + channel]
                    states[place] = old * w[inputs.w.rows == 1 ? from : at + from] + added
                    y[at + channel] += r[at + from] * (inputs.bonus.map { old + $0[from] * added } ?? states[place])
                }
            }
        }
        return y
    }

    private func narrowed(_ inputs: WKV6Inputs<Double>) -> WKV6Inputs<Float> {
        func narrow(_ matrix: Matrix<Double>) -> Matrix<Float> {
            Matrix(matrix.array.map { Float($0) }, columns: matrix.columns)
        }
        return WKV6Inputs(
            r: narrow(inputs.r), w: narrow(inputs.w), k: narrow(inputs.k), v: narrow(inputs.v),
            bonus: inputs.bonus?.map { Float($0) })
    }

    @Test("any head size and number of tokens, with decays from 0 to 1", arguments: KernelTests.tables)
    func shapes(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 2),
            let doubles = Kernels<Double>(table, instructionSet: set, threads: 1)
        else { return }
        let lengths = [1, 3, 4, 5, 8, 11, 21]
        var shapes = [8, 12, 16, 32, 40, 48, 64, 96, 128].enumerated().flatMap { place, size in
            [(size, lengths[place % 7]), (size, lengths[(place + 3) % 7])]
        }
        shapes += [(16, 255), (32, 257), (64, 300), (96, 515)]
        for (number, (size, length)) in shapes.enumerated() {
            let (heads, sequences) = (length > 30 ? 1 : 3, length > 30 ? 1 : 2)
            let inputs = inputs(
                rows: sequences * length, columns: heads * size, isFixed: number % 3 == 0, hasBonus: number % 2 == 0)
            var noise = Noise(state: 5)
            let start = noise.numbers(sequences * heads * size * size)
            var (expectedState, state, doubleState) = (start, start.map { Float($0) }, start)
            let expected = reference(inputs, size: size, states: &expectedState, sequences: sequences)
            let y = kernels.wkv6(narrowed(inputs), size: size, state: &state)
            #expect(relativeError(y.array.map(Double.init), expected) < 1e-5, "\(length) tokens, heads of \(size)")
            #expect(relativeError(state.map(Double.init), expectedState) < 1e-5, "state, heads of \(size)")
            let exact = doubles.wkv6(inputs, size: size, state: &doubleState)
            #expect(relativeError(exact.array, expected) < 1e-13, "\(length) tokens, heads of \(size), doubles")
            #expect(relativeError(doubleState, expectedState) < 1e-13, "state, heads of \(size), doubles")
        }
    }

    /// The fast kernels group rows, so only the strict kernels give the same bits.
    @Test("parts of a sequence and single tokens give the same as the whole", arguments: KernelTests.tables)
    func parts(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 2) else { return }
        for size in [64, 96, 24] {
            let all = narrowed(inputs(rows: 40, columns: 2 * size, isFixed: false, hasBonus: size != 96))
            func rows(_ range: Range<Int>) -> WKV6Inputs<Float> {
                WKV6Inputs(
                    r: all.r.rows(range), w: all.w.rows(range), k: all.k.rows(range), v: all.v.rows(range),
                    bonus: all.bonus)
            }
            let empty = [Float](repeating: 0, count: 2 * size * size)
            var (whole, inParts, single) = (empty, empty, empty)
            let y = kernels.wkv6(all, size: size, state: &whole).array
            let parts = [0..<1, 1..<9, 9..<40].flatMap { kernels.wkv6(rows($0), size: size, state: &inParts).array }
            let tokens = (0..<40).flatMap { kernels.wkv6(rows($0..<$0 + 1), size: size, state: &single).array }
            for (found, expected) in [(parts, y), (tokens, y), (inParts, whole), (single, whole)] {
                #expect(table == .fast || found == expected, "heads of \(size)")
                #expect(relativeError(found.map(Double.init), expected.map(Double.init)) < 1e-6, "heads of \(size)")
            }
        }
    }

    /// Without a bonus, the recurrence is that of RWKV-7 with removal keys of zero, which also computes the gradients.
    @Test("gradients without a bonus", arguments: [1, 15, 16, 17, 37])
    func gradients(length: Int) throws {
        let kernels = try #require(Kernels<Double>(.fast, threads: 2))
        let (size, step) = (8, 1e-6)
        let inputs = inputs(rows: length, columns: 2 * size, isFixed: false, hasBonus: false)
        let all = [inputs.r, inputs.w, inputs.k, inputs.v]
        let dy = self.inputs(rows: length + 100, columns: 2 * size, isFixed: false, hasBonus: false).r.rows(0..<length)
        func zeros() -> Matrix<Double> { Matrix(zeros: length, columns: 2 * size) }
        let seven = WKV7Inputs(r: all[0], w: all[1], k: all[2], v: all[3], removal: zeros(), iclr: zeros())
        let (y, checkpoints) = kernels.wkv7(seven, size: size, sequences: 1)
        var state = [Double](repeating: 0, count: 2 * size * size)
        let expected = reference(inputs, size: size, states: &state, sequences: 1)
        #expect(relativeError(y.array, expected) < 1e-13)
        let gradients = kernels.wkv7Backward(dy, seven, checkpoints, added: (zeros(), zeros(), zeros()))
        for (input, gradient) in [gradients.r, gradients.w, gradients.k, gradients.v].enumerated() {
            let differences = (0..<length * 2 * size).map { place in
                let values = [step, -step].map { change in
                    var numbers = all.map(\.array)
                    numbers[input][place] += change
                    let changed = numbers.map { Matrix($0, columns: 2 * size) }
                    var state = [Double](repeating: 0, count: 2 * size * size)
                    let y = reference(
                        WKV6Inputs(r: changed[0], w: changed[1], k: changed[2], v: changed[3], bonus: nil), size: size,
                        states: &state, sequences: 1)
                    return zip(y, dy.array).reduce(0) { $0 + $1.0 * $1.1 }
                }
                return (values[0] - values[1]) / (2 * step)
            }
            // With one token, decays multiply a state of zero.
            if input == 1, length == 1 {
                #expect(gradient.array.allSatisfy { $0 == 0 })
            } else {
                #expect(relativeError(gradient.array, differences) < 1e-6, "\(length) tokens, input \(input)")
            }
        }
    }

    @Test("a decay at its floor has no gradient")
    func floor() throws {
        let kernels = try #require(Kernels<Double>(.fast, threads: 1))
        // exp(p) is below 5 for the first two inputs, and above 5 for the others.
        let p = [-3, 1.6, 1.62, 4]
        let dw = Matrix([1.0, 1, 1, 1], columns: 4)
        kernels.exponentialDecayBackward(inPlace: dw, p: Matrix(p, columns: 4), base: [0, 0, 0, 0], floor: -5)
        func decay(_ change: Double) -> [Double] {
            let w = Matrix(p.map { $0 + change }, columns: 4)
            kernels.exponentialDecay(inPlace: w, base: [0, 0, 0, 0], floor: -5)
            return w.array
        }
        let slopes = zip(decay(1e-6), decay(-1e-6)).map { ($0 - $1) / 2e-6 }
        #expect(zip(dw.array, slopes).allSatisfy { ($0 - $1).magnitude < 1e-9 })
        #expect(dw.array[0] < -0.04 && dw.array[1] < -0.03 && dw.array[2...] == [0, 0])
    }
}
