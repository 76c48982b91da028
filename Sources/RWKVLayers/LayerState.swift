public import RWKVNumerics

/// A layer's state after earlier tokens; fields that the layer does not use keep their initial values.
public struct LayerState<Element: Real>: Sendable, Equatable {
    /// The number of concatenated sequences of equal length; if more than one, there are no earlier tokens.
    public var sequences = 1
    /// Attention keys after RoPE: [tokens, key-value heads N].
    public var keys: [Element] = []
    /// Attention values: [tokens, key-value heads N].
    public var values: [Element] = []
    /// Time-mixing states S^T: [sequences, heads, key, value].
    public var matrices: [Element] = []
    /// The last normalised input to time mixing: [C].
    public var mixerShift: [Element] = []
    /// The last normalised input to channel mixing: [C].
    public var feedForwardShift: [Element] = []

    /// Creates the state at the start of a sequence.
    public init() {}

    /// Drops the keys and values of all but the last `tokens` tokens.
    mutating func keepLast(_ tokens: Int, columns: Int) {
        let excess = keys.count - tokens * columns
        guard excess > 0 else { return }
        keys.removeFirst(excess)
        values.removeFirst(excess)
    }
}

/// The first layer's keys and values (v_first) for the current tokens, which later layers mix into their own.
public enum FirstValues<Element: Real> {
    /// Not known yet: the next layer provides them.
    case wanted
    /// Keys, after head norms and RoPE, and values: [tokens, key-value heads N] each.
    case known(keys: Matrix<Element>, values: Matrix<Element>)
    /// Not known yet: the first time-mixing layer provides them; attention layers do not.
    case ofTimeMixing
}

/// Gradients of the first layer's keys and values.
///
/// Later layers add to these gradients, and the layer that provides the keys and values propagates them.
public struct FirstGradients<Element: Real> {
    /// The gradient of the keys, [tokens, key-value heads N].
    let keys: Matrix<Element>
    /// The gradient of the values, [tokens, key-value heads N].
    let values: Matrix<Element>

    /// Creates zero gradients; returns nil if the first layer's keys and values are not known.
    public init?(of first: FirstValues<Element>) {
        guard case .known(let keys, let values) = first else { return nil }
        self.keys = Matrix(zeros: keys.rows, columns: keys.columns)
        self.values = Matrix(zeros: values.rows, columns: values.columns)
    }
}
