public import RWKVNumerics

/// A layer's memory of earlier tokens; fields that it does not use keep their initial values.
public struct LayerState<Element: Real>: Sendable, Equatable {
    /// The number of sequences, concatenated and of equal length; several cannot have earlier tokens.
    public var sequences = 1
    /// Keys of attention after RoPE: [tokens, key-value heads N].
    public var keys: [Element] = []
    /// Values of attention: [tokens, key-value heads N].
    public var values: [Element] = []
    /// States S^T of time mixing: [sequences, heads, key, value].
    public var matrices: [Element] = []
    /// The last normalised input of time mixing: [C].
    public var mixerShift: [Element] = []
    /// The last normalised input of channel mixing: [C].
    public var feedForwardShift: [Element] = []

    /// The start of a sequence.
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
    /// [tokens, key-value heads N] each, keys after head norms and RoPE.
    case known(keys: Matrix<Element>, values: Matrix<Element>)
    /// Not known yet: the first time-mixing layer provides them, and attention layers do not.
    case ofTimeMixing
}

/// Gradients of the first layer's keys and values: later layers add to them, and the layer that provides the values
/// propagates them.
public struct FirstGradients<Element: Real> {
    /// The gradient of the keys, [tokens, key-value heads N].
    let keys: Matrix<Element>
    /// The gradient of the values, [tokens, key-value heads N].
    let values: Matrix<Element>

    /// Zero gradients; nil if the first layer's keys and values are not known.
    public init?(of first: FirstValues<Element>) {
        guard case .known(let keys, let values) = first else { return nil }
        self.keys = Matrix(zeros: keys.rows, columns: keys.columns)
        self.values = Matrix(zeros: values.rows, columns: values.columns)
    }
}
