public import RWKVNumerics

/// h + mixer(norm(h)), and then h + feedForward(norm(h)).
public struct Layer<Element: Real>: Sendable {
    /// What mixes tokens.
    public enum Mixer: Sendable {
        case attention(SoftmaxAttention<Element>)
        case wkv7(TimeMix<Element>)
    }

    /// How tokens are turned, by the kind of layer; nil for not at all.
    public struct Rotations {
        /// In attention.
        public let attention: Rotation<Element>?
        /// In time mixing.
        public let timeMixing: Rotation<Element>?

        /// Rotations of the same tokens.
        public init(attention: Rotation<Element>?, timeMixing: Rotation<Element>?) {
            self.attention = attention
            self.timeMixing = timeMixing
        }
    }

    let mixerNorm: Norm<Element>
    let mixer: Mixer
    let feedForwardNorm: Norm<Element>
    let feedForward: FeedForward<Element>

    /// A layer of parts that go together.
    public init(
        mixerNorm: Norm<Element>, mixer: Mixer, feedForwardNorm: Norm<Element>, feedForward: FeedForward<Element>
    ) {
        self.mixerNorm = mixerNorm
        self.mixer = mixer
        self.feedForwardNorm = feedForwardNorm
        self.feedForward = feedForward
    }

    /// The weight matrices, each of which every token is multiplied with.
    public var matrices: [StoredMatrix] {
        let mixing =
            switch mixer {
            case .attention(let attention): attention.matrices
            case .wkv7(let timeMix): timeMix.matrices
            }
        return mixing + feedForward.matrices
    }

    /// What the mixer adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream, [tokens, C].
    ///   - state: of the layer; carried on.
    ///   - first: the first layer's keys and values.
    ///   - rotations: of these tokens.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    @specialized(where Element == Float)
    public func mixed(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotations: Rotations, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        let x = mixerNorm(h, kernels)
        return switch mixer {
        case .attention(let attention):
            attention(x, &state, first: &first, rotation: rotations.attention, kernels)
        case .wkv7(let timeMix): timeMix(x, &state, first: &first, rotation: rotations.timeMixing, kernels)
        }
    }

    /// What the feed-forward part adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream behind the mixer, [tokens, C].
    ///   - state: of the layer; carried on.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    @specialized(where Element == Float)
    public func fed(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        feedForward(feedForwardNorm(h, kernels), &state, kernels)
    }
}
