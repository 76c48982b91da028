import CRWKVKernels

// The elementwise chains of RWKV-7's time mixing, each in one pass. (RWKV-LM, RWKV-v7.)
extension Kernels {
    /// x + (previous - x) share for each share, where previous is the row before, and `previous` before the first.
    ///
    /// - Parameters:
    ///   - x: [tokens, C].
    ///   - previous: [C].
    ///   - shares: [C] each.
    /// - Returns: [tokens, C] for each share.
    @specialized(where Element == Float)
    public func shifted(_ x: Matrix<Element>, previous: [Element], shares: [[Element]]) -> [Matrix<Element>] {
        precondition(
            previous.count == x.columns && shares.allSatisfy { $0.count == x.columns }, "a shift of another size")
        let ys = shares.map { _ in Matrix<Element>(rows: x.rows, columns: x.columns) }
        // One behind the other, so that there are pointers to all at once.
        let together = shares.flatMap { $0 }
        together.withUnsafeBufferPointer { together in
            previous.withUnsafeBufferPointer { previous in
                guard let first = together.baseAddress else { return }
                let starts = shares.indices.map { UnsafeRawPointer(first + $0 * x.columns) as UnsafeRawPointer? }
                overRows(of: x) { start, count in
                    let offset = start * x.columns
                    let rows = x.elements + offset
                    let targets = ys.map { UnsafeMutableRawPointer($0.elements + offset) as UnsafeMutableRawPointer? }
                    functions.token_shifts(
                        rows, start == 0 ? previous.baseAddress : UnsafePointer(rows - x.columns), starts, shares.count,
                        count, x.columns, targets)
                }
            }
        }
        return ys
    }

    /// Turns p into the decay exp(-exp(omega)), omega = -softplus(-(p + base)) - 1/2, in place.
    ///
    /// - Parameters:
    ///   - p: [tokens, A].
    ///   - base: [A]; nil for none.
    ///   - givesOmega: whether omega is asked for as well.
    /// - Returns: omega, [tokens, A], if it is.
    @specialized(where Element == Float)
    public func decay(
        inPlace p: Matrix<Element>, base: [Element]?, givesOmega: Bool
    ) -> Matrix<Element>? {
        precondition(base?.count ?? p.columns == p.columns, "a base of another size")
        let omega = givesOmega ? Matrix<Element>(rows: p.rows, columns: p.columns) : nil
        overRows(of: p) { start, count in
            let offset = start * p.columns
            functions.decay(base, count, p.columns, p.elements + offset, omega.map { $0.elements + offset })
        }
        return omega
    }

    /// y + (first - y) sigmoid(share + base).
    ///
    /// - Parameters:
    ///   - y: [tokens, A], as first and share.
    ///   - first: what it is mixed with.
    ///   - share: how much.
    ///   - base: [A]; nil for none.
    /// - Returns: [tokens, A].
    @specialized(where Element == Float)
    public func mixed(
        _ y: Matrix<Element>, first: Matrix<Element>, share: Matrix<Element>, base: [Element]?
    ) -> Matrix<Element> {
        precondition(
            first.count == y.count && share.count == y.count && base?.count ?? y.columns == y.columns,
            "matrices of other sizes")
        let mixed = y.copy()
        overRows(of: y) { start, count in
            let offset = start * y.columns
            functions.mix_residual(
                first.elements + offset, share.elements + offset, base, count, y.columns, mixed.elements + offset)
        }
        return mixed
    }

    /// Makes in-context learning rates a = sigmoid(a + base), normed removal keys, and scaled keys.
    ///
    /// - Parameters:
    ///   - k: keys, [tokens, heads N]; become scaled, in place.
    ///   - a: what a is to be made of, as k; becomes that, in place.
    ///   - base: [heads N]; nil for none.
    ///   - removalScale: what keys are multiplied with before they are normed, [heads N]; nil for nothing.
    ///   - mix: [heads N]: keys are scaled by 1 + (a - 1) mix; nil where they are by 1 - omega + a.
    ///   - omega: as k; nil where there is a mix.
    ///   - size: channels of a head (N).
    /// - Returns: k removalScale / max(|k removalScale|, 1e-12) for each head.
    @specialized(where Element == Float)
    public func keys(
        inPlace k: Matrix<Element>, iclr a: Matrix<Element>, base: [Element]?, removalScale: [Element]?,
        mix: [Element]?, omega: Matrix<Element>?, size: Int
    ) -> Matrix<Element> {
        precondition((mix == nil) == (omega != nil), "keys are scaled in one way")
        precondition(
            a.count == k.count && omega?.count ?? k.count == k.count
                && [base, removalScale, mix].allSatisfy { $0?.count ?? k.columns == k.columns },
            "matrices of other sizes")
        let removal = Matrix<Element>(rows: k.rows, columns: k.columns)
        overRows(of: k) { start, count in
            let offset = start * k.columns
            functions.keys(
                base, removalScale, mix, omega.map { $0.elements + offset }, count, k.columns / size, size,
                a.elements + offset, k.elements + offset, removal.elements + offset)
        }
        return removal
    }

    /// (norm(y) + (sum over each head of r k bonus) v) gate, in the place of y.
    ///
    /// - Parameters:
    ///   - y: what the recurrence gives, [tokens, heads N], as the other matrices.
    ///   - norm: LayerNorm of each head, weight and bias being [heads N]; nil for y / sqrt(N).
    ///   - r: receptance.
    ///   - k: key.
    ///   - v: value.
    ///   - bonus: [heads, N].
    ///   - gate: what the sum is multiplied with.
    ///   - size: channels of a head (N).
    @specialized(where Element == Float)
    public func headOutputs(
        inPlace y: Matrix<Element>, norm: (weight: [Element], bias: [Element], epsilon: Double)?, r: Matrix<Element>,
        k: Matrix<Element>, v: Matrix<Element>,
        bonus: [Element], gate: Matrix<Element>, size: Int
    ) {
        precondition(
            [r, k, v, gate].allSatisfy { $0.count == y.count }
                && [bonus, norm?.weight, norm?.bias].allSatisfy { $0?.count ?? y.columns == y.columns },
            "matrices of other sizes")
        overRows(of: y) { start, count in
            let offset = start * y.columns
            functions.head_outputs(
                r.elements + offset, k.elements + offset, v.elements + offset, bonus, norm?.weight, norm?.bias,
                norm?.epsilon ?? 0,
                gate.elements + offset, count, y.columns / size, size, y.elements + offset)
        }
    }
}
