public import RWKVNumerics

/// softmax(q k^T / sqrt(N)) v over all tokens so far, several heads of queries sharing one of keys and values.
public struct SoftmaxAttention<Element: Real>: Sendable {
    /// Heads of queries.
    let heads: Int
    /// Heads of keys and values.
    let keyValueHeads: Int
    let query: Linear<Element>
    let key: Linear<Element>
    let value: Linear<Element>
    let output: Linear<Element>
    /// In front of the rotation; nil for none.
    let headNorms: HeadNorms<Element>?

    /// Attention of projections that go together.
    public init(
        heads: Int, keyValueHeads: Int, query: Linear<Element>, key: Linear<Element>, value: Linear<Element>,
        output: Linear<Element>, headNorms: HeadNorms<Element>?
    ) {
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.query = query
        self.key = key
        self.value = value
        self.output = output
        self.headNorms = headNorms
    }

    var matrices: [StoredMatrix] { [query, key, value, output].map(\.weight) }

    /// - Parameters:
    ///   - x: [tokens, C], normed.
    ///   - state: keys and values so far, to which those of `x` are added.
    ///   - first: what later time mixing mixes in, where this layer is to give it: keys and values as attention sees them.
    ///   - rotation: of these tokens; nil for none.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        var q = query(x, kernels)
        var k = key(x, kernels)
        let v = value(x, kernels)
        if let norms = headNorms {
            q = kernels.rmsNorm(q, weight: norms.query, epsilon: norms.epsilon)
            k = kernels.rmsNorm(k, weight: norms.key, epsilon: norms.epsilon)
        }
        let size = q.columns / heads
        rotation?.apply(to: q, size: size, kernels)
        rotation?.apply(to: k, size: size, kernels)
        if case .wanted = first { first = .known(keys: k, values: v) }
        state.keys.append(k)
        state.values.append(v)
        let y = kernels.attention(
            q, keys: state.keys, values: state.values, heads: heads, keyValueHeads: keyValueHeads)
        return output(y, kernels)
    }
}
