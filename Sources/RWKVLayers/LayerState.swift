public import RWKVNumerics

/// What a layer remembers of the tokens before; what it has no use for stays as it was at the start.
public struct LayerState<Element: Real>: Sendable, Equatable {
    /// Of attention: [tokens, key-value heads N], turned.
    public var keys: [Element] = []
    /// Of attention: [tokens, key-value heads N].
    public var values: [Element] = []
    /// Of time mixing: [heads, key, value], the transposes of S.
    public var matrices: [Element] = []
    /// The last normed input of time mixing: [C].
    public var mixerShift: [Element] = []
    /// The last normed input of channel mixing: [C].
    public var feedForwardShift: [Element] = []

    /// The start of a sequence.
    public init() {}
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
