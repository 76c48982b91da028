import RWKVNumerics
import Testing

/// Compares gradients with plain loops and finite differences.
///
/// The matrices are large enough to be split into tiles and distributed over threads.
struct BackwardTests {
    private static let tables = KernelTable.allCases

    private func kernels(_ table: KernelTable) throws -> Kernels<Double> {
        try #require(Kernels<Double>(table, threads: 2))
    }

    private func matrix(_ rows: Int, _ columns: Int, seed: UInt64) -> Matrix<Double> {
        var noise = Noise(state: seed)
        return Matrix((0..<rows * columns).map { _ in noise.next() }, columns: columns)
    }

    private func largestDifference(_ found: [Double], _ expected: [Double]) -> Double {
        zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
    }

    @Test(
        "gradients of weights are added, in the order in which the weights are stored", arguments: tables,
        [false, true])
    func weights(_ table: KernelTable, _ isInputMajor: Bool) throws {
        let kernels = try kernels(table)
        let (rows, outputs, inputs) = (70, 300, 270)
        let (dy, x) = (matrix(rows, outputs, seed: 1), matrix(rows, inputs, seed: 2))
        let shape = isInputMajor ? (inputs, outputs) : (outputs, inputs)
        let weight = StoredMatrix(sharing: matrix(shape.0, shape.1, seed: 3), isInputMajor: isInputMajor)
        let gradient = matrix(shape.0, shape.1, seed: 4)
        let (dys, xs) = (dy.array, x.array)
        var expected = gradient.array
        for output in 0..<outputs {
            for input in 0..<inputs {
                let place = isInputMajor ? input * outputs + output : output * inputs + input
                for row in 0..<rows { expected[place] += dys[row * outputs + output] * xs[row * inputs + input] }
            }
        }
        kernels.addGradient(to: gradient, of: weight, dy, x)
        #expect(largestDifference(gradient.array, expected) < 1e-12)

        let bias = matrix(1, outputs, seed: 5)
        var sums = bias.array
        for (place, number) in dys.enumerated() { sums[place % outputs] += number }
        kernels.addGradient(to: bias, ofRows: dy)
        #expect(largestDifference(bias.array, sums) < 1e-12)
    }

    @Test("gradients of activations are their slopes", arguments: tables)
    func activations(_ table: KernelTable) throws {
        let kernels = try kernels(table)
        let (rows, width, step) = (311, 130, 1e-6)
        func numbers(_ seed: UInt64) -> [Double] { matrix(rows, width, seed: seed).array.map { 4 * $0 } }
        let (x, up, dy) = (numbers(1), numbers(2), matrix(rows, width, seed: 3))
        func all(_ numbers: [Double]) -> Matrix<Double> { Matrix(numbers, columns: width) }
        func check(_ what: String, _ gradient: Matrix<Double>, _ x: [Double], _ value: (Matrix<Double>) -> [Double]) {
            let (above, below) = (value(all(x.map { $0 + step })), value(all(x.map { $0 - step })))
            let slopes = zip(zip(above, below), dy.array).map { ($0.0 - $0.1) / (2 * step) * $1 }
            #expect(largestDifference(gradient.array, slopes) < 1e-8, "\(what)")
        }
        func capped(_ x: Matrix<Double>) -> Matrix<Double> {
            kernels.softcap(inPlace: x, cap: 3)
            return x
        }
        let dcapped = dy.copy()
        kernels.softcapBackward(inPlace: dcapped, capped(all(x)), cap: 3)
        check("softcap", dcapped, x) { capped($0).array }
        for (what, forward, backward) in [
            ("swiGLU", kernels.swiGLU, kernels.swiGLUBackward), ("geGLU", kernels.geGLU, kernels.geGLUBackward),
        ] {
            let (dup, dgate) = (all(up), all(x))
            backward(dy, dup, dgate)
            check(what, dgate, x) { gate in
                forward(all(up), gate)
                return gate.array
            }
            check(what + ", up", dup, up) { up in
                let gate = all(x)
                forward(up, gate)
                return gate.array
            }
        }
    }

    @Test("distances of rows, and their gradients", arguments: tables)
    func distances(_ table: KernelTable) throws {
        let kernels = try kernels(table)
        let (rows, width) = (400, 129)
        let (x, target) = (matrix(rows, width, seed: 1), matrix(rows, width, seed: 2))
        let (xs, targets) = (x.array, target.array)
        let (squares, targetSquares) = kernels.distances(x, to: target)
        for row in 0..<rows {
            let places = row * width..<(row + 1) * width
            #expect(
                abs(squares[row] - places.reduce(0) { $0 + (xs[$1] - targets[$1]) * (xs[$1] - targets[$1]) }) < 1e-12)
            #expect(abs(targetSquares[row] - places.reduce(0) { $0 + targets[$1] * targets[$1] }) < 1e-12)
        }
        kernels.scaleDifferences(inPlace: x, to: target, by: (0..<rows).map { Double($0) })
        let expected = xs.indices.map { (xs[$0] - targets[$0]) * Double($0 / width) }
        #expect(largestDifference(x.array, expected) < 1e-12)
    }

    @Test("divergence and cross-entropy of rows", arguments: tables)
    func divergence(_ table: KernelTable) throws {
        let kernels = try kernels(table)
        let (rows, count) = (90, 400)
        let (targets, logits) = (matrix(rows, count, seed: 1), matrix(rows, count, seed: 2))
        let next = (0..<rows).map { Int64($0 % 3 == 2 ? -1 : $0 * 4) }
        let (losses, gradient) = kernels.divergence(
            targets: targets, logits: logits, targetScale: 3, scale: 2, factor: 0.7)
        let divergenceGradient = gradient.array
        let entropies = kernels.crossEntropy(logits: logits, next: next, factor: 0.3, addingTo: gradient)
        let whole = gradient.array
        func logSoftmax(_ row: [Double]) -> [Double] {
            let sum = logarithm(row.reduce(0) { $0 + exponential($1) })
            return row.map { $0 - sum }
        }
        for row in 0..<rows {
            let p = logSoftmax(targets.row(row).map { 3 * $0 })
            let q = logSoftmax(logits.row(row).map { 2 * $0 })
            let plain = logSoftmax(logits.row(row))
            let loss = zip(p, q).reduce(0) { $0 + exponential($1.0) * ($1.0 - $1.1) }
            #expect(abs(losses[row] - loss) < 1e-13)
            #expect(abs(entropies[row] - (next[row] < 0 ? 0 : -plain[Int(next[row])])) < 1e-13)
            var worst = 0.0
            for place in 0..<count {
                let found = divergenceGradient[row * count + place]
                worst = max(worst, abs(found - 0.7 * (exponential(q[place]) - exponential(p[place]))))
                let isNext = Int64(place) == next[row]
                let added = next[row] < 0 ? 0 : 0.3 * (exponential(plain[place]) - (isNext ? 1 : 0))
                worst = max(worst, abs(whole[row * count + place] - found - added))
            }
            #expect(worst < 1e-14)
        }
    }
}
