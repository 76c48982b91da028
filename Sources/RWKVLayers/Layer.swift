import ModelFamilies
public import RWKVNumerics

/// The norms around a block of a layer, which adds after(block(before(h))) to the residual stream h.
public struct BranchNorms<Element: Real>: Sendable {
    /// Norms what the block sees; nil where it sees the residual stream itself.
    public let before: Norm<Element>?
    /// Norms what the block gives; nil where that is added as it is.
    public let after: Norm<Element>?

    /// Norms of a branch.
    public init(before: Norm<Element>?, after: Norm<Element>? = nil) {
        self.before = before
        self.after = after
    }

    func input(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> { before?(h, kernels) ?? h }

    func output(_ y: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> { after?(y, kernels) ?? y }
}

/// Two branches that add to the residual stream: a mixer of tokens, and then a feed-forward block.
public struct Layer<Element: Real>: Sendable {
    /// What mixes tokens.
    public enum Mixer: Sendable {
        case attention(SoftmaxAttention<Element>)
        case wkv7(TimeMix<Element>)
    }

    let mixerNorms: BranchNorms<Element>
    let mixer: Mixer
    let feedForwardNorms: BranchNorms<Element>
    /// The feed-forward block.
    public let feedForward: FeedForward<Element>

    /// A layer of parts that go together.
    public init(
        mixerNorms: BranchNorms<Element>, mixer: Mixer, feedForwardNorms: BranchNorms<Element>,
        feedForward: FeedForward<Element>
    ) {
        self.mixerNorms = mixerNorms
        self.mixer = mixer
        self.feedForwardNorms = feedForwardNorms
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
        /// What was normed; nil where the mixer ran by itself.
        let normed: Normed?
        let feedForward: FeedForward<Element>.Trace?

        /// The residual stream before each branch, and what its block gave where that was normed.
        struct Normed {
            let h, mixed: Matrix<Element>
            let mixerOutput, feedForwardOutput: Matrix<Element>?
        }
    }

    /// What the mixer sees of the residual stream: [tokens, C] to the same.
    public func mixerInput(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorms.input(h, kernels)
    }

    /// What the mixer adds to the residual stream, by what it makes of its input: [tokens, C] to the same.
    public func mixerOutput(_ y: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorms.output(y, kernels)
    }

    /// What the mixer makes of its input.
    ///
    /// - Parameters:
    ///   - x: [tokens, C], normed.
    ///   - state: of the layer; carried on.
    ///   - first: the first layer's keys and values.
    ///   - rotation: of these tokens in this layer; nil for none.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    public func mix(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        switch mixer {
        case .attention(let attention):
            attention(x, &state, first: &first, rotation: rotation, kernels)
        case .wkv7(let timeMix): timeMix(x, &state, first: &first, rotation: rotation, kernels)
        }
    }

    /// What the mixer adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream, [tokens, C].
    ///   - state: of the layer; carried on.
    ///   - first: the first layer's keys and values.
    ///   - rotation: of these tokens in this layer; nil for none.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    @specialized(where Element == Float)
    public func mixed(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        mixerOutput(mix(mixerInput(h, kernels), &state, first: &first, rotation: rotation, kernels), kernels)
    }

    /// What the feed-forward part adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream after the mixer, [tokens, C].
    ///   - state: of the layer; carried on.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    @specialized(where Element == Float)
    public func fed(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        feedForwardNorms.output(feedForward(feedForwardNorms.input(h, kernels), &state, kernels), kernels)
    }

    // MARK: Training

    /// What the mixer makes of whole sequences of normed input, and what gradients need.
    ///
    /// - Parameters:
    ///   - x: [tokens, C], sequences one after the other.
    ///   - state: at their start.
    ///   - first: the first layer's keys and values.
    ///   - rotation: of these tokens in this layer; nil for none.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C], and the trace.
    public func tracedMixer(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        switch mixer {
        case .attention(let attention):
            let (y, trace) = attention.traced(x, &state, first: &first, rotation: rotation, kernels)
            return (y, Trace(mixer: .attention(trace), normed: nil, feedForward: nil))
        case .wkv7(let timeMix):
            let (y, trace) = timeMix.traced(x, &state, first: &first, rotation: rotation, kernels)
            return (y, Trace(mixer: .wkv7(trace), normed: nil, feedForward: nil))
        }
    }

    /// Adds the gradient of ``tracedMixer(_:_:first:rotation:_:)``'s input by that of what came out.
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
    ///   - h: the residual stream, [tokens, C], sequences one after the other, which the trace keeps.
    ///   - state: at their start.
    ///   - first: the first layer's keys and values.
    ///   - rotation: of these tokens in this layer; nil for none.
    ///   - kernels: what it is computed with.
    /// - Returns: the residual stream after the layer, and the trace.
    public func traced(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (y, trace) = tracedMixer(mixerInput(h, kernels), &state, first: &first, rotation: rotation, kernels)
        let mixed = mixerOutput(y, kernels)
        kernels.add(h, to: mixed)
        let (z, feedForwardTrace) = feedForward.traced(feedForwardNorms.input(mixed, kernels), kernels)
        let fed = feedForwardNorms.output(z, kernels)
        kernels.add(mixed, to: fed)
        let normed = Trace.Normed(
            h: h, mixed: mixed, mixerOutput: mixerNorms.after.map { _ in y },
            feedForwardOutput: feedForwardNorms.after.map { _ in z })
        return (fed, Trace(mixer: trace.mixer, normed: normed, feedForward: feedForwardTrace))
    }

    /// Takes the gradient of the residual stream after the layer to that before it, in place.
    ///
    /// - Parameters:
    ///   - dh: [tokens, C].
    ///   - trace: of ``traced(_:_:first:rotation:_:)``, which serves once.
    ///   - first: gradients of the first keys and values; nil where none pass.
    ///   - gradients: of the weights, to which theirs are added.
    ///   - isLast: whether nothing before the layer changes, so that what `dh` becomes is of no use.
    ///   - kernels: what it is computed with.
    public func backward(
        inPlace dh: Matrix<Element>, _ trace: Trace, first: FirstGradients<Element>?,
        _ gradients: WeightGradients<Element>, isLast: Bool, _ kernels: Kernels<Element>
    ) {
        guard let normed = trace.normed, let feedForwardTrace = trace.feedForward else {
            preconditionFailure("the trace of a mixer alone")
        }
        let dz = feedForwardNorms.outputBackward(
            dh, normed.feedForwardOutput, .feedForwardPostNormWeight, gradients, kernels)
        let dfed = feedForward.backward(dz, feedForwardTrace, gradients, kernels)
        kernels.add(
            feedForwardNorms.inputBackward(dfed, normed.mixed, .feedForwardNormWeight, gradients, kernels), to: dh)
        let dy = mixerNorms.outputBackward(dh, normed.mixerOutput, .mixerPostNormWeight, gradients, kernels)
        if isLast, gradients[.mixerNormWeight] == nil {
            return mixerBackward(dy, trace, first: first, gradients, kernels)
        }
        let dmixed = Matrix<Element>(zeros: dh.rows, columns: dh.columns)
        mixerBackward(dy, trace, first: first, gradients, addingTo: dmixed, kernels)
        kernels.add(mixerNorms.inputBackward(dmixed, normed.h, .mixerNormWeight, gradients, kernels), to: dh)
    }
}

extension BranchNorms {
    /// The gradient of what the block gave, by that of what was added.
    fileprivate func outputBackward(
        _ dy: Matrix<Element>, _ y: Matrix<Element>?, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        guard let after, let y else { return dy }
        return after.backward(dy, y, role, gradients, kernels)
    }

    /// The gradient of the residual stream, by that of what the block saw.
    fileprivate func inputBackward(
        _ dx: Matrix<Element>, _ h: Matrix<Element>, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        before?.backward(dx, h, role, gradients, kernels) ?? dx
    }
}
