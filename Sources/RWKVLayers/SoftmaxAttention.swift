import ModelFamilies
public import RWKVNumerics

/// Causal softmax attention, softmax(scale q k^T) v, with an optional sliding window and score softcap.
///
/// Several query heads can share a key-value head.
public struct SoftmaxAttention<Element: Real>: Sendable {
    /// The numbers of heads, the scale, the sliding window and the score softcap.
    let parameters: AttentionParameters
    let query: Linear<Element>
    let key: Linear<Element>
    let value: Linear<Element>
    let output: Linear<Element>
    /// The norms of query and key heads, which are applied before RoPE; nil if there are none.
    let headNorms: HeadNorms<Element>?

    /// Creates an attention mixer with the given projections, which must have matching sizes.
    public init(
        _ parameters: AttentionParameters, query: Linear<Element>, key: Linear<Element>, value: Linear<Element>,
        output: Linear<Element>, headNorms: HeadNorms<Element>?
    ) {
        self.parameters = parameters
        self.query = query
        self.key = key
        self.value = value
        self.output = output
        self.headNorms = headNorms
    }

    var matrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        ([query, key, value].map(\.weight), [output.weight])
    }

    /// The intermediate values of a forward pass that the backward pass needs.
    struct Trace {
        let x, query, key, turnedQuery, turnedKey, value, y: Matrix<Element>
        let rotation: Rotation<Element>?
        let givesFirst: Bool
        let sequences: Int
    }

    /// Applies attention to the next tokens of a sequence.
    ///
    /// - Parameters:
    ///   - x: the mixer's input, [tokens, C].
    ///   - state: the layer's state; the keys and values of `x` are appended to its KV cache.
    ///   - first: the first layer's keys, after head norms and RoPE, and its values; this layer sets both if they are
    ///     ``FirstValues/wanted``.
    ///   - rotation: the RoPE rotation of the tokens; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the mixer's output, [tokens, C].
    public func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        traced(x, &state, first: &first, rotation: rotation, kernels).0
    }

    func traced(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (query, key, value) = (query(x, kernels), key(x, kernels), value(x, kernels))
        let (q, k) = headNorms?(query, key, kernels) ?? (query, key)
        let size = q.columns / parameters.heads
        rotation?.apply(to: q, size: size, kernels)
        rotation?.apply(to: k, size: size, kernels)
        var givesFirst = false
        if case .wanted = first { (first, givesFirst) = (.known(keys: k, values: value), true) }
        state.keys.append(k)
        state.values.append(value)
        let y = kernels.attention(
            q, keys: state.keys, values: state.values, parameters, sequences: state.sequences)
        // A state with several sequences cannot be continued, so its KV cache does not need trimming.
        if let window = parameters.window, state.sequences == 1 {
            state.keepLast(window, columns: parameters.keyValueHeads * size)
        }
        return (
            output(y, kernels),
            Trace(
                x: x, query: query, key: key, turnedQuery: q, turnedKey: k, value: value, y: y, rotation: rotation,
                givesFirst: givesFirst, sequences: state.sequences)
        )
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the weights to `gradients`.
    ///
    /// If `dx` is nil, the gradient of `x` is not computed.
    func backward(
        _ dy: Matrix<Element>, _ trace: Trace, first: FirstGradients<Element>?, _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        let dheads = output.backward(dy, trace.y, (.outputWeight, .outputBias), gradients, kernels)
        let size = dheads.columns / parameters.heads
        var (dq, dk, dv) = kernels.attentionBackward(
            dheads, queries: trace.turnedQuery, keys: trace.turnedKey, values: trace.value, parameters,
            sequences: trace.sequences)
        if trace.givesFirst, let first {
            kernels.add(first.keys, to: dk)
            kernels.add(first.values, to: dv)
        }
        trace.rotation?.backward(inPlace: dq, size: size, kernels)
        trace.rotation?.backward(inPlace: dk, size: size, kernels)
        if let headNorms {
            (dq, dk) = headNorms.backward(
                dq, dk, trace.query, trace.key, (.queryNorm, .keyNorm), gradients, kernels)
        }
        query.backward(dq, trace.x, (.queryWeight, .queryBias), gradients, addingTo: dx, kernels)
        key.backward(dk, trace.x, (.keyWeight, .keyBias), gradients, addingTo: dx, kernels)
        value.backward(dv, trace.x, (.valueWeight, .valueBias), gradients, addingTo: dx, kernels)
    }
}
