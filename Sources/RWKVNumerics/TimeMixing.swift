import CRWKVKernels

// The elementwise steps of time mixing (RWKV-LM, RWKV-v5 and RWKV-v7), fused into one pass each.
extension Kernels {
    /// Returns the token shift x + (x_prev - x) * share for each share, where x_prev is the preceding row.
    ///
    /// - Parameters:
    ///   - x: the input, [tokens, C].
    ///   - previous: the row before the first row of each sequence, [C].
    ///   - shares: the shares, each [C].
    ///   - sequences: the number of sequences of equal length that are concatenated in x.
    /// - Returns: one matrix for each share, [tokens, C].
    @specialized(where Element == Float)
    public func shifted(
        _ x: Matrix<Element>, previous: [Element], shares: [[Element]], sequences: Int = 1
    ) -> [Matrix<Element>] {
        let ys = shares.map { _ in Matrix<Element>(rows: x.rows, columns: x.columns) }
        shift(x, previous: previous, shares, ys, sequences: sequences, functions.token_shifts)
        return ys
    }

    /// Replaces each share with the token shift x + (x_prev - x) * (base + share), where x_prev is the preceding row.
    ///
    /// - Parameters:
    ///   - shares: the shares of the preceding row, each [tokens, C], which do not include the bases; replaced with the
    ///     token shifts.
    ///   - x: the input, [tokens, C].
    ///   - previous: the row before the first row of each sequence, [C].
    ///   - bases: the bases of the shares, each [C].
    ///   - sequences: the number of sequences of equal length that are concatenated in x.
    @specialized(where Element == Float)
    public func shift(
        inPlace shares: [Matrix<Element>], _ x: Matrix<Element>, previous: [Element], bases: [[Element]],
        sequences: Int = 1
    ) {
        shift(x, previous: previous, bases, shares, sequences: sequences, functions.data_dependent_token_shifts)
    }

    private func shift(
        _ x: Matrix<Element>, previous: [Element], _ vectors: [[Element]], _ ys: [Matrix<Element>], sequences: Int,
        _ kernel: (
            UnsafeRawPointer, UnsafeRawPointer, UnsafePointer<UnsafeRawPointer?>, Int, Int, Int,
            UnsafePointer<UnsafeMutableRawPointer?>
        ) -> Void
    ) {
        precondition(
            previous.count == x.columns && vectors.allSatisfy { $0.count == x.columns }
                && ys.allSatisfy { $0.count == x.count } && ys.count == vectors.count, "mismatched shift sizes")
        // The vectors are concatenated, so that the pointers to all of them point into a single buffer.
        let concatenated = vectors.flatMap { $0 }
        concatenated.withUnsafeBufferPointer { concatenated in
            previous.withUnsafeBufferPointer { previous in
                guard let first = concatenated.baseAddress, let before = previous.baseAddress else { return }
                let starts = vectors.indices.map { UnsafeRawPointer(first + $0 * x.columns) as UnsafeRawPointer? }
                overRows(of: x, sequences: sequences) { start, count, isFirst, _ in
                    let offset = start * x.columns
                    let rows = x.elements + offset
                    let targets = ys.map { UnsafeMutableRawPointer($0.elements + offset) as UnsafeMutableRawPointer? }
                    kernel(
                        rows, isFirst ? before : UnsafePointer(rows - x.columns), starts, vectors.count, count,
                        x.columns, targets)
                }
            }
        }
    }

    /// Replaces p with the decay w = exp(max(-exp(p + base), floor)) of RWKV-6 and RAD-RWKV6.
    ///
    /// - Parameters:
    ///   - p: the input, [tokens, A]; replaced with the decay.
    ///   - base: the base, [A].
    ///   - floor: the least logarithm of the decay.
    @specialized(where Element == Float)
    public func exponentialDecay(inPlace p: Matrix<Element>, base: [Element], floor: Double = -.infinity) {
        precondition(base.count == p.columns, "base size does not match")
        overRows(of: p) { start, count in
            functions.exponential_decay(base, floor, count, p.columns, p.elements + start * p.columns)
        }
    }

    /// Multiplies the keys k by 1 - w, where w is the decay in the shape of k.
    public func balance(inPlace k: Matrix<Element>, decay w: Matrix<Element>) {
        onto(k, w) { functions.balance($0, $2, $1) }
    }

    /// Replaces p with the decay w = exp(-exp(omega)), where omega = -softplus(-(p + base)) - 1/2.
    ///
    /// - Parameters:
    ///   - p: the input, [tokens, A]; replaced with the decay.
    ///   - base: the base w0, [A]; nil for none.
    ///   - returnsOmega: whether to return omega as well.
    /// - Returns: omega, [tokens, A]; nil unless `returnsOmega`.
    @specialized(where Element == Float)
    public func decay(
        inPlace p: Matrix<Element>, base: [Element]?, returnsOmega: Bool
    ) -> Matrix<Element>? {
        precondition(base?.count ?? p.columns == p.columns, "base size does not match")
        let omega = returnsOmega ? Matrix<Element>(rows: p.rows, columns: p.columns) : nil
        overRows(of: p) { start, count in
            let offset = start * p.columns
            functions.decay(base, count, p.columns, p.elements + offset, omega.map { $0.elements + offset })
        }
        return omega
    }

    /// Returns y mixed with the first layer's values (v_first) or keys: y + (first - y) * sigmoid(share + base).
    ///
    /// - Parameters:
    ///   - y: this layer's values or keys, [tokens, A].
    ///   - first: the first layer's values or keys, in the same shape.
    ///   - share: the share of `first`, which does not include the base, in the same shape.
    ///   - base: the base of the share, [A]; nil for none.
    /// - Returns: the mixed values or keys, [tokens, A].
    @specialized(where Element == Float)
    public func mixed(
        _ y: Matrix<Element>, first: Matrix<Element>, share: Matrix<Element>, base: [Element]?
    ) -> Matrix<Element> {
        precondition(
            first.count == y.count && share.count == y.count && base?.count ?? y.columns == y.columns,
            "mismatched matrix sizes")
        let mixed = y.copy()
        overRows(of: y) { start, count in
            let offset = start * y.columns
            functions.mix_residual(
                first.elements + offset, share.elements + offset, base, count, y.columns, mixed.elements + offset)
        }
        return mixed
    }

    /// Computes the in-context learning rates, the normalised removal keys and the scaled keys.
    ///
    /// - Parameters:
    ///   - k: the keys, [tokens, heads * N]; scaled in place.
    ///   - a: the argument of the sigmoid, which does not include the base, in the shape of k; replaced with the
    ///     in-context learning rates sigmoid(a + base).
    ///   - base: the base a0, [heads * N]; nil for none.
    ///   - removalScale: k_k, the factor for keys before normalisation, [heads * N]; nil for none.
    ///   - mix: k_a, [heads * N]. Keys are multiplied by 1 + (a - 1) * mix, or by 1 - omega + a if `mix` is nil.
    ///   - omega: the omega that ``decay(inPlace:base:returnsOmega:)`` returns, or the decay w, in the shape of k; nil if
    ///     there is a mix.
    ///   - size: the number of channels per head (N).
    /// - Returns: the removal keys kk = k * removalScale / max(|k * removalScale|, 1e-12), where |x| is the L2 norm
    ///   over a head.
    @specialized(where Element == Float)
    public func keys(
        inPlace k: Matrix<Element>, iclr a: Matrix<Element>, base: [Element]?, removalScale: [Element]?,
        mix: [Element]?, omega: Matrix<Element>?, size: Int
    ) -> Matrix<Element> {
        precondition((mix == nil) == (omega != nil), "keys are scaled either by mix or by omega")
        precondition(
            a.count == k.count && omega?.count ?? k.count == k.count
                && [base, removalScale, mix].allSatisfy { $0?.count ?? k.columns == k.columns },
            "mismatched matrix sizes")
        let removal = Matrix<Element>(rows: k.rows, columns: k.columns)
        overRows(of: k) { start, count in
            let offset = start * k.columns
            functions.keys(
                base, removalScale, mix, omega.map { $0.elements + offset }, count, k.columns / size, size,
                a.elements + offset, k.elements + offset, removal.elements + offset)
        }
        return removal
    }

    /// Replaces y with (norm(y) + s * v) * gate, where s is the sum of r * k * bonus over each head.
    ///
    /// - Parameters:
    ///   - y: the output of the recurrence, [tokens, heads * N].
    ///   - norm: the norm of each head.
    ///   - bonus: the bonus r_k, [heads, N], with the receptance, the scaled key and the value, each in the shape of y;
    ///     nil if s is zero.
    ///   - gate: the gate, in the shape of y; nil for none.
    ///   - size: the number of channels per head (N).
    @specialized(where Element == Float)
    public func headOutputs(
        inPlace y: Matrix<Element>, norm: HeadOutputNorm<Element>,
        bonus: (weight: [Element], r: Matrix<Element>, k: Matrix<Element>, v: Matrix<Element>)?,
        gate: Matrix<Element>?, size: Int
    ) {
        precondition(
            [bonus?.r, bonus?.k, bonus?.v, gate].allSatisfy { $0?.count ?? y.count == y.count }
                && [bonus?.weight, norm.weight, norm.bias].allSatisfy { $0?.count ?? y.columns == y.columns },
            "mismatched matrix sizes")
        let (weight, bias, scale) = (norm.weight, norm.bias, norm.scale(size: size))
        overRows(of: y) { start, count in
            let offset = start * y.columns
            func part(_ matrix: Matrix<Element>?) -> UnsafeMutablePointer<Element>? {
                matrix.map { $0.elements + offset }
            }
            functions.head_outputs(
                part(bonus?.r), part(bonus?.k), part(bonus?.v), bonus?.weight, weight, bias, norm.epsilon, scale,
                part(gate), count, y.columns / size, size, y.elements + offset)
        }
    }
}

/// The norm of each head's output.
public enum HeadOutputNorm<Element: Real>: Sendable {
    case none
    /// y / sqrt(N)
    case scale
    /// LayerNorm; the weight and bias are [heads * N] each.
    case layerNorm(weight: [Element], bias: [Element], epsilon: Double)

    var weight: [Element]? { if case .layerNorm(let weight, _, _) = self { weight } else { nil } }
    var bias: [Element]? { if case .layerNorm(_, let bias, _) = self { bias } else { nil } }
    var epsilon: Double { if case .layerNorm(_, _, let epsilon) = self { epsilon } else { 0 } }

    /// Returns the factor of the output of heads with `size` channels.
    func scale(size: Int) -> Double { if case .scale = self { 1 / Double(size).squareRoot() } else { 1 } }
}
