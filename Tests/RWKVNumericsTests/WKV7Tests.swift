import CRWKVKernels
import RWKVNumerics
import Testing

/// Compares the RWKV-7 recurrence with plain loops in double precision.
struct WKV7Tests {
    private static let elements = [RWKV_ELEMENT_F64, RWKV_ELEMENT_F32, RWKV_ELEMENT_F16, RWKV_ELEMENT_BF16]
    private static let combinations = KernelTests.tables.flatMap { table, set in
        elements.map { (table, set, $0.rawValue) }
    }

    /// Returns random inputs, rounded to an element type.
    ///
    /// Decays are random, 0.545, 1, or occasionally 0, which clears the state.
    private func inputs(_ element: rwkv_element, rows: Int, columns: Int, size: Int) -> WKV7Inputs<StoredMatrix> {
        var noise = Noise(state: UInt64(rows * 1009 + size))
        func random(_ value: (Double) -> Double = { $0 }) -> StoredMatrix {
            stored(element, inputs: columns, outputs: rows) { _, _ in value(noise.next()) }
        }
        let decay = random { x in
            switch x {
            case ..<(-0.8): 0.545
            case 0.8...: 1
            case ..<(-0.78): 0
            default: 0.545 + 0.455 * x.magnitude
            }
        }
        // The norm of a removal key is about one.
        let scale = 1.7 / Double(size).squareRoot()
        return .init(
            r: random(), w: decay, k: random(), v: random(), removal: random { $0 * scale },
            iclr: random(\.magnitude))
    }

    /// Computes S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r with plain loops.
    ///
    /// Several sequences are concatenated, and the states are [key][value].
    private func reference(
        _ inputs: WKV7Inputs<StoredMatrix>, size: Int, states: inout [Double], sequences: Int
    ) -> [Double] {
        let (rows, columns) = (inputs.r.outputs, inputs.r.inputs)
        let (r, w, k) = (inputs.r.numbers() as [Double], inputs.w.numbers() as [Double], inputs.k.numbers() as [Double])
        let (v, kk, a) = (
            inputs.v.numbers() as [Double], inputs.removal.numbers() as [Double], inputs.iclr.numbers() as [Double]
        )
        var y = [Double](repeating: 0, count: rows * columns)
        for row in 0..<rows {
            for head in 0..<columns / size {
                let at = row * columns + head * size
                let state = (row / (rows / sequences) * (columns / size) + head) * size * size
                for value in 0..<size {
                    var removed = 0.0
                    for key in 0..<size { removed += states[state + key * size + value] * kk[at + key] }
                    for key in 0..<size {
                        let place = state + key * size + value
                        states[place] =
                            states[place] * w[at + key] - removed * kk[at + key] * a[at + key] + v[at + value]
                            * k[at + key]
                        y[at + value] += states[place] * r[at + key]
                    }
                }
            }
        }
        return y
    }

    @Test("any head size, type and number of tokens", arguments: combinations)
    func shapes(_ table: KernelTable, _ set: InstructionSet, _ type: rwkv_element.RawValue) throws {
        guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 2),
            let doubles = Kernels<Double>(table, instructionSet: set, threads: 1)
        else { return }
        let element = rwkv_element(rawValue: type)
        // Head sizes are all multiples of 16 up to 128 and some other sizes. In the last shapes, the number of rows is
        // close to the number that is widened at once, or larger.
        let lengths = [1, 2, 3, 4, 7, 8, 9, 21]
        var shapes = ([8, 12, 40] + Array(stride(from: 16, through: 128, by: 16))).enumerated().flatMap { place, size in
            [(size, lengths[place % 8]), (size, lengths[(place + 3) % 8])]
        }
        shapes += [(16, 255), (16, 256), (32, 257), (64, 300), (96, 513)]
        for (size, length) in shapes {
            let (heads, sequences) = (length > 30 ? 1 : 3, length > 30 ? 1 : 2)
            let inputs = inputs(element, rows: sequences * length, columns: heads * size, size: size)
            var noise = Noise(state: 5)
            let start = noise.numbers(sequences * heads * size * size)
            var (expectedState, state, doubleState) = (start, start.map { Float($0) }, start)
            let expected = reference(inputs, size: size, states: &expectedState, sequences: sequences)
            let y = kernels.wkv7(inputs, size: size, state: &state)
            let error = relativeError(y.array.map(Double.init), expected)
            #expect(error < 1e-5, "\(length) tokens, heads of \(size)")
            #expect(relativeError(state.map(Double.init), expectedState) < 1e-5, "state, heads of \(size)")
            let exact = doubles.wkv7(inputs, size: size, state: &doubleState)
            #expect(relativeError(exact.array, expected) < 1e-13, "\(length) tokens, heads of \(size), doubles")
            #expect(relativeError(doubleState, expectedState) < 1e-13, "state, heads of \(size), doubles")
        }
    }

    @Test("parts of a sequence and single tokens give the same as the whole", arguments: KernelTests.tables)
    func parts(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 2) else { return }
        for size in [64, 96, 128, 24] {
            let columns = 2 * size
            let stored = inputs(RWKV_ELEMENT_F32, rows: 40, columns: columns, size: size)
            func rows(_ range: Range<Int>) -> WKV7Inputs<Matrix<Float>> {
                func part(_ matrix: StoredMatrix) -> Matrix<Float> {
                    Matrix<Float>(matrix.numbers(), columns: columns).rows(range)
                }
                return .init(
                    r: part(stored.r), w: part(stored.w), k: part(stored.k), v: part(stored.v),
                    removal: part(stored.removal), iclr: part(stored.iclr))
            }
            let empty = [Float](repeating: 0, count: columns * size)
            var (whole, inParts, single) = (empty, empty, empty)
            let y = kernels.wkv7(rows(0..<40), size: size, state: &whole).array
            let parts = [0..<1, 1..<9, 9..<40].flatMap { kernels.wkv7(rows($0), size: size, state: &inParts).array }
            let tokens = (0..<40).flatMap { kernels.wkv7(rows($0..<$0 + 1), size: size, state: &single).array }
            #expect(parts == y && tokens == y && inParts == whole && single == whole, "heads of \(size)")
        }
    }

    /// With a small decay and zero keys, the state decays into denormals, which are slow on some processors.
    @Test("denormals are zero", arguments: KernelTests.tables)
    func denormals(_ table: KernelTable, _ set: InstructionSet) throws {
        guard let kernels = Kernels<Float>(table, instructionSet: set, threads: 1) else { return }
        let (rows, size) = (200, 64)
        func matrix(_ value: Float) -> Matrix<Float> {
            Matrix(Array(repeating: value, count: rows * size), columns: size)
        }
        var state = [Float](repeating: 1, count: size * size)
        _ = kernels.wkv7(
            .init(
                r: matrix(1), w: matrix(0.545), k: matrix(0), v: matrix(1), removal: matrix(0), iclr: matrix(0.5)),
            size: size, state: &state)
        #expect(state.allSatisfy { $0 == 0 })
        // The thread's own arithmetic still supports denormals.
        #expect(Float.leastNormalMagnitude / 2 > 0)
        let small = Matrix<Float>([Float.leastNormalMagnitude], columns: 1)
        kernels.add(Matrix<Float>([-Float.leastNormalMagnitude / 2], columns: 1), to: small)
        #expect(small.array == [Float.leastNormalMagnitude / 2])
    }
}
