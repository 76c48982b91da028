import ModelFamilies
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
    /// What follows.
    public let feedForward: FeedForward<Element>

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
    public var matrices: [StoredMatrix] { mixerMatrices.ofInput + mixerMatrices.others + feedForward.matrices }

    /// Those of attention or time mixing: of its input, and of what it makes of that.
    public var mixerMatrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        switch mixer {
        case .attention(let attention): attention.matrices
        case .wkv7(let timeMix): timeMix.matrices
        }
    }

    /// What gradients need of one run.
    public struct Trace {
        enum Mixer {
            case attention(SoftmaxAttention<Element>.Trace)
            case wkv7(TimeMix<Element>.Trace)
        }

        let mixer: Mixer
        /// What was normed: nil where the mixer ran by itself.
        let blocks: (h: Matrix<Element>, mixed: Matrix<Element>, feedForward: FeedForward<Element>.Trace)?
    }

    /// What the mixer sees of the residual stream: [tokens, C] to the same.
    public func mixerInput(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorm(h, kernels)
    }

    /// What the mixer makes of its input.
    ///
    /// - Parameters:
    ///   - x: [tokens, C], normed.
    ///   - state: of the layer; carried on.
    ///   - first: the first layer's keys and values.
    ///   - rotations: of these tokens.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    public func mix(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotations: Rotations, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        switch mixer {
        case .attention(let attention):
            attention(x, &state, first: &first, rotation: rotations.attention, kernels)
        case .wkv7(let timeMix): timeMix(x, &state, first: &first, rotation: rotations.timeMixing, kernels)
        }
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
        mix(mixerInput(h, kernels), &state, first: &first, rotations: rotations, kernels)
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

    // MARK: Training

    /// What the mixer makes of whole sequences of normed input, and what gradients need.
    ///
    /// - Parameters:
    ///   - x: [tokens, C], sequences one behind the other.
    ///   - state: at their start.
    ///   - first: the first layer's keys and values.
    ///   - rotations: of these tokens.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C], and the trace.
    public func tracedMixer(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotations: Rotations, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        switch mixer {
        case .attention(let attention):
            let (y, trace) = attention.traced(x, &state, first: &first, rotation: rotations.attention, kernels)
            return (y, Trace(mixer: .attention(trace), blocks: nil))
        case .wkv7(let timeMix):
            let (y, trace) = timeMix.traced(x, &state, first: &first, rotation: rotations.timeMixing, kernels)
            return (y, Trace(mixer: .wkv7(trace), blocks: nil))
        }
    }

    /// Adds the gradient of ``tracedMixer(_:_:first:rotations:_:)``'s input by that of what came out.
    ///
    /// - Parameters:
    ///   - dy: [tokens, C].
    ///   - trace: of that run, which serves once.
    ///   - first: gradients of the first keys and values; nil where none pass.
    ///   - gradients: of the weights, to which theirs are added.
    ///   - dx: of the input, [tokens, C]; nil where it is of no use.
    ///   - kernels: what it is computed with.
    public func mixerBackward(
        _ dy: Matrix<Element>, _ trace: Trace, first: FirstGradients<Element>?, _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>? = nil, _ kernels: Kernels<Element>
    ) {
        switch (mixer, trace.mixer) {
        case (.attention(let attention), .attention(let trace)):
            attention.backward(dy, trace, first: first, gradients, addingTo: dx, kernels)
        case (.wkv7(let timeMix), .wkv7(let trace)):
            timeMix.backward(dy, trace, first: first, gradients, addingTo: dx, kernels)
        default: preconditionFailure("the trace of another layer")
        }
    }

    /// The layer over whole sequences, and what gradients need.
    ///
    /// - Parameters:
    ///   - h: the residual stream, [tokens, C], sequences one behind the other, which the trace keeps.
    ///   - state: at their start.
    ///   - first: the first layer's keys and values.
    ///   - rotations: of these tokens.
    ///   - kernels: what it is computed with.
    /// - Returns: the residual stream behind the layer, and the trace.
    public func traced(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotations: Rotations, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (mixed, trace) = tracedMixer(mixerInput(h, kernels), &state, first: &first, rotations: rotations, kernels)
        kernels.add(h, to: mixed)
        let (fed, feedForwardTrace) = feedForward.traced(feedForwardNorm(mixed, kernels), kernels)
        kernels.add(mixed, to: fed)
        return (fed, Trace(mixer: trace.mixer, blocks: (h, mixed, feedForwardTrace)))
    }

    /// Takes the gradient of the residual stream from behind the layer to what is in front of it, in place.
    ///
    /// - Parameters:
    ///   - dh: [tokens, C].
    ///   - trace: of ``traced(_:_:first:rotations:_:)``, which serves once.
    ///   - first: gradients of the first keys and values; nil where none pass.
    ///   - gradients: of the weights, to which theirs are added.
    ///   - isLast: whether nothing in front of the layer changes, so that what `dh` becomes is of no use.
    ///   - kernels: what it is computed with.
    public func backward(
        inPlace dh: Matrix<Element>, _ trace: Trace, first: FirstGradients<Element>?,
        _ gradients: WeightGradients<Element>, isLast: Bool, _ kernels: Kernels<Element>
    ) {
        guard let blocks = trace.blocks else { preconditionFailure("the trace of a mixer alone") }
        let dfed = feedForward.backward(dh, blocks.feedForward, gradients, kernels)
        kernels.add(
            feedForwardNorm.backward(dfed, blocks.mixed, .feedForwardNormWeight, gradients, kernels), to: dh)
        if isLast, gradients[.mixerNormWeight] == nil {
            return mixerBackward(dh, trace, first: first, gradients, kernels)
        }
        let dmixed = Matrix<Element>(zeros: dh.rows, columns: dh.columns)
        mixerBackward(dh, trace, first: first, gradients, addingTo: dmixed, kernels)
        kernels.add(mixerNorm.backward(dmixed, blocks.h, .mixerNormWeight, gradients, kernels), to: dh)
    }
}
