import ModelFamilies
public import RWKVNumerics

/// The norms before and after a block: the branch adds after(block(before(h))) to the residual stream h.
public struct BranchNorms<Element: Real>: Sendable {
    /// The pre-norm, which is applied to the block's input; nil if the block reads the residual stream directly.
    public let before: Norm<Element>?
    /// The post-norm, which is applied to the block's output; nil if the output is added to the residual stream
    /// unchanged.
    public let after: Norm<Element>?

    /// Creates the norms of one branch.
    public init(before: Norm<Element>?, after: Norm<Element>? = nil) {
        self.before = before
        self.after = after
    }

    func input(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> { before?(h, kernels) ?? h }

    func output(_ y: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> { after?(y, kernels) ?? y }
}

/// A layer: a token mixer and a feed-forward block, each added to the residual stream.
public struct Layer<Element: Real>: Sendable {
    /// The token mixer: attention or time mixing.
    public enum Mixer: Sendable {
        case attention(SoftmaxAttention<Element>)
        case wkv7(WKV7Mixer<Element>)
        case wkv6(WKV6Mixer<Element>)
    }

    let mixerNorms: BranchNorms<Element>
    /// The token mixer.
    public let mixer: Mixer
    let feedForwardNorms: BranchNorms<Element>
    /// The feed-forward block.
    public let feedForward: FeedForward<Element>

    /// Creates a layer from the given parts, which must have matching sizes.
    public init(
        mixerNorms: BranchNorms<Element>, mixer: Mixer, feedForwardNorms: BranchNorms<Element>,
        feedForward: FeedForward<Element>
    ) {
        self.mixerNorms = mixerNorms
        self.mixer = mixer
        self.feedForwardNorms = feedForwardNorms
        self.feedForward = feedForward
    }

    /// All weight matrices of the layer; every token passes through each of them.
    public var matrices: [StoredMatrix] { mixerMatrices.ofInput + mixerMatrices.others + feedForward.matrices }

    /// The weight matrices of the mixer, divided into those applied to its input and those applied to intermediate
    /// values.
    public var mixerMatrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        switch mixer {
        case .attention(let attention): attention.matrices
        case .wkv7(let timeMix): timeMix.matrices
        case .wkv6(let timeMix): timeMix.matrices
        }
    }

    /// The intermediate values of a forward pass that the backward pass needs.
    public struct Trace {
        enum Mixer {
            case attention(SoftmaxAttention<Element>.Trace)
            case wkv7(WKV7Mixer<Element>.Trace)
            case wkv6(WKV6Mixer<Element>.Trace)
        }

        let mixer: Mixer
        /// The activations around the norms; nil if only the mixer was run.
        let normed: Normed?
        let feedForward: FeedForward<Element>.Trace?

        /// The residual stream before each branch, and the output of each block that has a post-norm.
        struct Normed {
            let h, afterMixer: Matrix<Element>
            let mixerOutput, feedForwardOutput: Matrix<Element>?
        }
    }

    /// Returns the input of the mixer: the residual stream h, [tokens, C], after the pre-norm, if there is one.
    public func mixerInput(_ h: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorms.input(h, kernels)
    }

    /// Returns the output y of the mixer, [tokens, C], after the post-norm, if there is one.
    public func mixerOutput(_ y: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        mixerNorms.output(y, kernels)
    }

    /// Applies the mixer without its norms.
    ///
    /// - Parameters:
    ///   - x: the mixer's input, [tokens, C].
    ///   - state: the layer's state, which is updated.
    ///   - first: the first layer's keys and values, which this layer sets if it is the one that provides them.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the mixer's output, [tokens, C].
    public func applyMixer(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        switch mixer {
        case .attention(let attention):
            attention(x, &state, first: &first, rotation: rotation, kernels)
        case .wkv7(let timeMix): timeMix(x, &state, first: &first, rotation: rotation, kernels)
        case .wkv6(let timeMix): timeMix(x, &state, rotation: rotation, kernels)
        }
    }

    /// Applies the mixer with its norms, and returns the result that the caller adds to the residual stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream, [tokens, C].
    ///   - state: the layer's state, which is updated.
    ///   - first: the first layer's keys and values, which this layer sets if it is the one that provides them.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the output of the mixer's branch, [tokens, C].
    @specialized(where Element == Float)
    public func mixerBranch(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        mixerOutput(applyMixer(mixerInput(h, kernels), &state, first: &first, rotation: rotation, kernels), kernels)
    }

    /// Applies the feed-forward block with its norms, and returns the result that the caller adds to the residual
    /// stream.
    ///
    /// - Parameters:
    ///   - h: the residual stream after the mixer's output has been added, [tokens, C].
    ///   - state: the layer's state, which is updated.
    ///   - kernels: the kernels to use.
    /// - Returns: the output of the feed-forward branch, [tokens, C].
    @specialized(where Element == Float)
    public func feedForwardBranch(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        feedForwardNorms.output(feedForward(feedForwardNorms.input(h, kernels), &state, kernels), kernels)
    }

    // MARK: Training

    /// Applies the mixer without its norms to complete sequences, and records a trace for the backward pass.
    ///
    /// - Parameters:
    ///   - x: the mixer's input for the concatenated sequences, [tokens, C].
    ///   - state: the layer's state at the start of the sequences.
    ///   - first: the first layer's keys and values, which this layer sets if it is the one that provides them.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the mixer's output, [tokens, C], and the trace.
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
        case .wkv6(let timeMix):
            let (y, trace) = timeMix.traced(x, &state, rotation: rotation, kernels)
            return (y, Trace(mixer: .wkv6(trace), normed: nil, feedForward: nil))
        }
    }

    /// Computes the gradients of ``tracedMixer(_:_:first:rotation:_:)``.
    ///
    /// - Parameters:
    ///   - dy: the gradient of the output, [tokens, C].
    ///   - trace: the trace of the forward pass, which can be used only once.
    ///   - first: the gradients of the first layer's keys and values; nil if no gradients flow to that layer.
    ///   - gradients: the accumulators for the gradients of the weights.
    ///   - dx: the accumulator for the gradient of the input, [tokens, C]; nil if that gradient is not needed.
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
        case (.wkv6(let timeMix), .wkv6(let trace)):
            timeMix.backward(dy, trace, gradients, addingTo: dx, kernels)
        default: preconditionFailure("the trace of another layer")
        }
    }

    /// Applies the layer to complete sequences, and records a trace for the backward pass.
    ///
    /// - Parameters:
    ///   - h: the residual stream of the concatenated sequences, [tokens, C]. The trace refers to this matrix, so the
    ///     caller must not change it.
    ///   - state: the layer's state at the start of the sequences.
    ///   - first: the first layer's keys and values, which this layer sets if it is the one that provides them.
    ///   - rotation: the RoPE rotation of the tokens in this layer; nil if the layer has no RoPE.
    ///   - kernels: the kernels to use.
    /// - Returns: the residual stream after the layer, and the trace.
    public func traced(
        _ h: Matrix<Element>, _ state: inout LayerState<Element>, first: inout FirstValues<Element>,
        rotation: Rotation<Element>?, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (y, trace) = tracedMixer(mixerInput(h, kernels), &state, first: &first, rotation: rotation, kernels)
        let afterMixer = mixerOutput(y, kernels)
        kernels.add(h, to: afterMixer)
        let (z, feedForwardTrace) = feedForward.traced(feedForwardNorms.input(afterMixer, kernels), kernels)
        let afterFeedForward = feedForwardNorms.output(z, kernels)
        kernels.add(afterMixer, to: afterFeedForward)
        let normed = Trace.Normed(
            h: h, afterMixer: afterMixer, mixerOutput: mixerNorms.after.map { _ in y },
            feedForwardOutput: feedForwardNorms.after.map { _ in z })
        return (afterFeedForward, Trace(mixer: trace.mixer, normed: normed, feedForward: feedForwardTrace))
    }

    /// Replaces the gradient of the residual stream after the layer with the gradient before the layer.
    ///
    /// - Parameters:
    ///   - dh: the gradient of the residual stream, [tokens, C].
    ///   - trace: the trace from ``traced(_:_:first:rotation:_:)``, which can be used only once.
    ///   - first: the gradients of the first layer's keys and values; nil if no gradients flow to that layer.
    ///   - gradients: the accumulators for the gradients of the weights.
    ///   - isLast: whether the backward pass ends with this layer. If so, the contents of `dh` are unspecified
    ///     afterwards.
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
            feedForwardNorms.inputBackward(dfed, normed.afterMixer, .feedForwardNormWeight, gradients, kernels), to: dh)
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
    /// Returns the gradient of the block's output, given the gradient of the branch's output.
    fileprivate func outputBackward(
        _ dy: Matrix<Element>, _ y: Matrix<Element>?, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        guard let after, let y else { return dy }
        return after.backward(dy, y, role, gradients, kernels)
    }

    /// Returns the gradient of the branch's input, given the gradient of the block's input.
    fileprivate func inputBackward(
        _ dx: Matrix<Element>, _ h: Matrix<Element>, _ role: TensorRole, _ gradients: WeightGradients<Element>,
        _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        before?.backward(dx, h, role, gradients, kernels) ?? dx
    }
}
