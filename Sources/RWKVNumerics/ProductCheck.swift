import CRWKVKernels

/// A test of matrix multiplication with pseudo-random factors, [rows, inner] and [inner, columns].
struct ProductCheck {
    typealias Multiply<Element: Real> = (
        _ size: (rows: Int, columns: Int, inner: Int), _ a: Factor<Element>, _ b: Factor<Element>,
        _ y: UnsafeMutablePointer<Element>, _ stride: Int, _ adds: Bool
    ) -> Void

    private let size: (rows: Int, columns: Int, inner: Int)
    private let a: Matrix<Double>
    private let b: Matrix<Double>
    /// The matrix that products are added to; each row ends in three unused elements.
    private let y: Matrix<Double>
    private let product: Matrix<Double>
    /// The product of the absolute values, |a| |b|, on which the error bound depends.
    private let magnitudes: Matrix<Double>

    init(rows: Int, columns: Int, inner: Int) {
        size = (rows, columns, inner)
        var state: UInt64 = 1
        func noise(_ rows: Int, _ columns: Int) -> Matrix<Double> {
            let numbers = (0..<rows * columns).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                // The numbers have 24 bits, so they are exact in both precisions.
                return Double(Int(state >> 40) - 1 << 23) * 0x1p-23
            }
            return Matrix(numbers, columns: columns)
        }
        a = noise(rows, inner)
        b = noise(inner, columns)
        y = noise(rows, columns + 3)
        product = Self.product(a, b)
        magnitudes = Self.product(Self.absolute(a), Self.absolute(b))
    }

    /// Checks an implementation with each factor plain and transposed, with and without adding to y.
    ///
    /// Each result must be within 8 K u (|a| |b| + |y|) of the expected result, where K is the inner size, u is 2^-24
    /// for floats and 2^-53 for doubles, and y is the matrix that products are added to. Elements between rows must not
    /// be read or changed.
    ///
    /// - Parameter multiply: the implementation to check.
    /// - Returns: a description of the first wrong product; nil if all products are correct.
    func mistake<Element: Real>(_ multiply: Multiply<Element>) -> String? {
        let (a, b) = (factors(self.a, Element.self), factors(self.b, Element.self))
        for (isATransposed, a) in a {
            for (isBTransposed, b) in b {
                for adds in [false, true] where !isRight(multiply, a, isATransposed, b, isBTransposed, adds: adds) {
                    return "\(Element.self) \(size.rows) x \(size.inner) x \(size.columns)"
                        + (isATransposed ? ", a transposed" : "") + (isBTransposed ? ", b transposed" : "")
                        + (adds ? ", added" : "")
                }
            }
        }
        return nil
    }

    private func isRight<Element: Real>(
        _ multiply: Multiply<Element>, _ a: Matrix<Element>, _ isATransposed: Bool, _ b: Matrix<Element>,
        _ isBTransposed: Bool, adds: Bool
    ) -> Bool {
        let found = Matrix(y.array.map { Element($0) }, columns: y.columns)
        // Unless the product is added to y, y must not be read. Reading it would give NaN.
        if !adds {
            for row in 0..<size.rows {
                for column in 0..<size.columns { found.elements[row * y.columns + column] = .nan }
            }
        }
        multiply(
            size, Factor(a.elements, stride: a.columns, isTransposed: isATransposed),
            Factor(b.elements, stride: b.columns, isTransposed: isBTransposed), found.elements, found.columns, adds)
        let limit = 8 * Double(size.inner) * Double(Element.ulpOfOne) / 2
        for row in 0..<size.rows {
            for column in 0..<y.columns {
                let (number, before) = (
                    Double(found.elements[row * y.columns + column]), y.elements[row * y.columns + column]
                )
                guard column < size.columns else {
                    if number != before { return false }
                    continue
                }
                let place = row * size.columns + column
                let expected = product.elements[place] + (adds ? before : 0)
                // NaN fails this comparison.
                guard abs(number - expected) <= limit * (magnitudes.elements[place] + abs(before)) else { return false }
            }
        }
        withExtendedLifetime((a, b)) {}
        return true
    }

    /// Returns a factor in both storage orders: plain and transposed.
    ///
    /// Each row is followed by NaNs, which no product may read.
    private func factors<Element: Real>(
        _ factor: Matrix<Double>, _: Element.Type
    ) -> [(isTransposed: Bool, Matrix<Element>)] {
        let (numbers, columns) = (factor.array.map { Element($0) }, factor.columns)
        func rows(_ count: Int, of width: Int, _ number: (Int, Int) -> Element) -> Matrix<Element> {
            let padded = (0..<count).flatMap { row in
                (0..<width).map { number(row, $0) } + [.nan, .nan]
            }
            return Matrix(padded, columns: width + 2)
        }
        return [
            (false, rows(factor.rows, of: columns) { numbers[$0 * columns + $1] }),
            (true, rows(columns, of: factor.rows) { numbers[$1 * columns + $0] }),
        ]
    }

    private static func absolute(_ matrix: Matrix<Double>) -> Matrix<Double> {
        Matrix(matrix.array.map { abs($0) }, columns: matrix.columns)
    }

    /// Returns the product a b, computed in doubles with our own strict kernels.
    private static func product(_ a: Matrix<Double>, _ b: Matrix<Double>) -> Matrix<Double> {
        let y = Matrix<Double>(rows: a.rows, columns: b.columns)
        Kernels<Double>(.strict, threads: 1)?.multiply(
            (a.rows, b.columns, a.columns), Factor(a.elements, stride: a.columns),
            Factor(b.elements, stride: b.columns), into: y.elements, stride: y.columns)
        withExtendedLifetime((a, b)) {}
        return y
    }
}
