public import RWKVNumerics

/// The state of a layer after the preceding tokens.
///
/// Fields that the layer does not use keep their initial values.
public struct LayerState<Element: Real>: Sendable, Equatable {
    /// The number of concatenated sequences of equal length; if there are several, the state cannot be continued.
    public var sequences = 1
    /// The keys in the KV cache, after RoPE: [tokens, key-value heads * N].
    public var keys: [Element] = []
    /// The values in the KV cache: [tokens, key-value heads * N].
    public var values: [Element] = []
    /// The time-mixing states, stored as the transpose S^T: [sequences, heads, key channels, value channels].
    public var matrices: [Element] = []
    /// The input of time mixing at the last token, used by the token shift: [C].
    public var mixerShift: [Element] = []
    /// The input of channel mixing at the last token, used by the token shift: [C].
    public var feedForwardShift: [Element] = []

    /// Creates the state at the start of a sequence.
    public init() {}

    /// Removes the oldest entries from the KV cache, so that at most the last `tokens` tokens remain.
    mutating func keepLast(_ tokens: Int, columns: Int) {
        let excess = keys.count - tokens * columns
        guard excess > 0 else { return }
        keys.removeFirst(excess)
        values.removeFirst(excess)
    }
}

/// The keys and values that the first layer computes for the current tokens (k_first, v_first), and that later layers
/// mix into their own.
public enum FirstValues<Element: Real> {
    /// Not computed yet; the next layer provides them, whatever its mixer.
    case wanted
    /// Already computed: the keys, after head norms and RoPE, and the values, each [tokens, key-value heads * N].
    case known(keys: Matrix<Element>, values: Matrix<Element>)
    /// Not computed yet; the first time-mixing layer provides them, and attention layers do not.
    case ofTimeMixing
}

/// The gradients of the first layer's keys and values.
///
/// Later layers add to these gradients. The layer that provides the keys and values then propagates them.
public struct FirstGradients<Element: Real> {
    /// The gradient of the keys, [tokens, key-value heads * N].
    let keys: Matrix<Element>
    /// The gradient of the values, [tokens, key-value heads * N].
    let values: Matrix<Element>

    /// Creates gradients that are zero; returns nil if the first layer's keys and values have not been computed.
    public init?(of first: FirstValues<Element>) {
        guard case .known(let keys, let values) = first else { return nil }
        self.keys = Matrix(zeros: keys.rows, columns: keys.columns)
        self.values = Matrix(zeros: values.rows, columns: values.columns)
    }
}
