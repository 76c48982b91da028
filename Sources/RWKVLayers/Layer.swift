import ModelFamilies
public import RWKVNumerics

/// The norms around a block; the branch adds after(block(before(h))) to the residual stream h.
public struct BranchNorms<Element: Real>: Sendable {
    /// The pre-norm, applied to the block's input; nil if the block reads the residual stream directly.
    public let before: Norm<Element>?
    /// The post-norm, applied to the block's output; nil if the output is added unchanged.
    public let after: Norm<Element>?

    /// Creates the norms of one branch.
    public init(before: Norm<Element>?, after: Norm<Element>? = nil) {
        self.before = before
        self.after = after
    }

    func input(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> { before?(h, kernels) ?? h }

    func output(_ y: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> { after?(y, kernels) ?? y }
}

/// A layer with two branches that add to the residual stream: a token mixer, then a feed-forward block.
public struct Layer<Element: Real>: Sendable {
    /// The token mixer: attention or time mixing.
    public enum Mixer: Sendable {
        case attention(SoftmaxAttention<Element>)
        case wkv7(TimeMix<Element>)
    }

    let mixerNorms: BranchNorms<Element>
    let mixer: Mixer
    let feedForwardNorms: BranchNorms<Element>
    /// The feed-forward block.
    public let feedForward: FeedForward<Element>

    /// Creates a layer from the given parts, whose sizes must match.
    public init(
        mixerNorms: BranchNorms<Element>, mixer: Mixer, feedForwardNorms: BranchNorms<Element>,
        feedForward: FeedForward<Element>
    ) {
        self.mixerNorms = mixerNorms
        self.mixer = mixer
        self.feedForwardNorms = feedForwardNorms
        self.feedForward = feedForward
    }

    /// All weight matrices of the layer; each token passes through every one.
    public var matrices: [StoredMatrix] { mixerMatrices.ofInput + mixerMatrices.others + feedForward.matrices }

    /// The mixer's weight matrices: those applied to the mixer's input, and those applied to intermediate results.
    public var mixerMatrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        switch mixer {
        case .attention(let attention): attention.matrices
        case .wkv7(let timeMix): timeMix.matrices
        }
    }

    /// Intermediate values of one forward pass, kept for the backward pass.
    public struct Trace {
        enum Mixer {
            case attention(SoftmaxAttention<Element>.Trace)
            case wkv7(TimeMix<Element>.Trace)
        }

        let mixer: Mixer
        /// The norms' inputs; nil if only the mixer ran.
        let normed: Normed?
        let feedForward: FeedForward<Element>.Trace?

        /// The residual stream before each branch, and each block's output if it has a post-norm.
        struct Normed {
            let h, mixed: Matrix<Element>
            let mixerOutput, feedForwardOutput: Matrix<Element>?
        }
    }

    /// Returns the mixer's input: the residual stream h, [tokens, C], after the pre-norm.
    public func mixerInput(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorms.input(h, kernels)
    }

    /// Returns what the mixer adds to the residual stream: the output y, [tokens, C], after the post-norm.
    public func mixerOutput(_ y: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorms.output(y, kernels)
    }

    /// Applies the mixer without its norms.
    ///
    /// - Parameters:
    ///   - x: the mixer's input, [tokens, C].
    ///   - state: the layer's state; updated.
    ///   - first: the first layer's keys and values.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil for none.
    ///   - kernels: the kernels to use.
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

    /// Applies the mixer with its norms; returns what this branch adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream, [tokens, C].
    ///   - state: the layer's state; updated.
    ///   - first: the first layer's keys and values.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil for none.
    ///   - kernels: the kernels to use.
    /// - Returns: [tokens, C].
    @specialized(where Element == Float)
    public func mixed(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        mixerOutput(mix(mixerInput(h, kernels), &state, first: &first, rotation: rotation, kernels), kernels)
    }

    /// Applies the feed-forward block with its norms; returns what this branch adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream after the mixer, [tokens, C].
    ///   - state: the layer's state; updated.
    ///   - kernels: the kernels to use.
    /// - Returns: [tokens, C].
    @specialized(where Element == Float)
    public func fed(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        feedForwardNorms.output(feedForward(feedForwardNorms.input(h, kernels), &state, kernels), kernels)
    }

    // MARK: Training

    /// Applies the mixer without its norms to whole sequences, and keeps what the backward pass needs.
    ///
    /// - Parameters:
    ///   - x: the mixer's input, [tokens, C], with sequences concatenated.
    ///   - state: the layer's state at the start of the sequences.
    ///   - first: the first layer's keys and values.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil for none.
    ///   - kernels: the kernels to use.
    /// - Returns: the output, [tokens, C], and the trace.
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

    /// Runs the backward pass of ``tracedMixer(_:_:first:rotation:_:)``.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, C].
    ///   - trace: the trace of the forward pass; can be used only once.
    ///   - first: the gradients of the first layer's keys and values; nil if no gradients flow to that layer.
    ///   - gradients: the accumulators for the weights' gradients.
    ///   - dx: the accumulator for the input's gradient, [tokens, C]; nil if not needed.
    ///   - kernels: the kernels to use.
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

    /// Applies the layer to whole sequences, and keeps what the backward pass needs.
    ///
    /// - Parameters:
    ///   - h: the residual stream, [tokens, C], with sequences concatenated; the trace keeps it.
    ///   - state: the layer's state at the start of the sequences.
    ///   - first: the first layer's keys and values.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil for none.
    ///   - kernels: the kernels to use.
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

    /// Replaces the gradient of the residual stream after the layer with the gradient before the layer.
    ///
    /// - Parameters:
    ///   - dh: the gradient of the residual stream, [tokens, C].
    ///   - trace: the trace from ``traced(_:_:first:rotation:_:)``; can be used only once.
    ///   - first: the gradients of the first layer's keys and values; nil if no gradients flow to that layer.
    ///   - gradients: the accumulators for the weights' gradients.
    ///   - isLast: whether no earlier layer is trained, so that `dh` is not needed afterwards.
    ///   - kernels: the kernels to use.
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
    /// Returns the gradient of the block's output, given the gradient of what the branch added.
    fileprivate func outputBackward(
        _ dy: Matrix<Element>, _ y: Matrix<Element>?, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        guard let after, let y else { return dy }
        return after.backward(dy, y, role, gradients, kernels)
    }

    /// Returns the gradient of the residual stream, given the gradient of the block's input.
    fileprivate func inputBackward(
        _ dx: Matrix<Element>, _ h: Matrix<Element>, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        before?.backward(dx, h, role, gradients, kernels) ?? dx
    }
}
