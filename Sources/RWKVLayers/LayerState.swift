public import RWKVNumerics

/// What a layer remembers of the tokens before; what it has no use for stays as it was at the start.
public struct LayerState<Element: Real>: Sendable, Equatable {
    /// How many sequences there are, one behind the other and of the same length; several have no tokens before.
    public var sequences = 1
    /// Of attention: [tokens, key-value heads N], turned.
    public var keys: [Element] = []
    /// Of attention: [tokens, key-value heads N].
    public var values: [Element] = []
    /// Of time mixing: [sequences, heads, key, value], the transposes of S.
    public var matrices: [Element] = []
    /// The last normed input of time mixing: [C].
    public var mixerShift: [Element] = []
    /// The last normed input of channel mixing: [C].
    public var feedForwardShift: [Element] = []

    /// The start of a sequence.
    public init() {}

    /// Forgets the keys and values of all but the last tokens.
    mutating func keepLast(_ tokens: Int, columns: Int) {
        let excess = keys.count - tokens * columns
        guard excess > 0 else { return }
        keys.removeFirst(excess)
        values.removeFirst(excess)
    }
}

/// The keys and values of the first layer, which later ones mix in: of the same tokens, so that none are carried on.
public enum FirstValues<Element: Real> {
    /// The next layer that may give them does.
    case wanted
    /// [tokens, key-value heads N] each, keys normed and turned.
    case known(keys: Matrix<Element>, values: Matrix<Element>)
    /// No layer that has run may give them: the first time mixing does.
    case ofTimeMixing
}

/// Gradients of the first keys and values, which the layers that mix them in add to, and the layer that gives them takes in.
public struct FirstGradients<Element: Real> {
    /// [tokens, key-value heads N], as what they are the gradient of.
    let keys: Matrix<Element>
    /// The same of values.
    let values: Matrix<Element>

    /// Zeros, for first values that are known.
    public init?(of first: FirstValues<Element>) {
        guard case .known(let keys, let values) = first else { return nil }
        self.keys = Matrix(zeros: keys.rows, columns: keys.columns)
        self.values = Matrix(zeros: values.rows, columns: values.columns)
    }
}
