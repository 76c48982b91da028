public import Bytes
import CheckpointFiles
public import RWKVLayers
public import RWKVNumerics

/// A forward pass through the layers of a model, one layer at a time.
///
///     var pass = try LayerPass(model, stream, taking: &state, kernels)
///     while try pass.next() {
///         pass.add(pass.mixerBranch())
///         pass.add(pass.feedForwardBranch())
///     }
///     pass.finish(&state)
public struct LayerPass<Element: Real> {
    /// The residual stream, [tokens, C].
    public private(set) var stream: Matrix<Element>
    /// The index of the current layer; -1 before the first layer.
    public private(set) var number = -1
    /// The keys and values of the first layer (k_first, v_first), which later layers mix into their own.
    public private(set) var first: FirstValues<Element>

    private let model: Model<Element>
    private let kernels: Kernels<Element>
    private let progress: WorkProgress
    private let checksNumbers: Bool
    private let rotations: [Rotation<Element>?]
    private let tokenCount: Int
    private var states: [LayerState<Element>]

    /// Creates a forward pass that is positioned before the first layer.
    ///
    /// - Parameters:
    ///   - model: the model whose layers are run.
    ///   - stream: the residual stream before the layers, [tokens, C]; ``add(_:)`` changes it in place.
    ///   - state: the state after the preceding tokens. The pass takes the layer states out of it, and ``finish(_:)``
    ///     puts them back.
    ///   - kernels: the kernels to use.
    ///   - checksNumbers: whether to throw an error if the residual stream is not finite after a layer.
    ///   - progress: an object that the caller can use to cancel the work after any layer.
    /// - Throws: `CheckpointError` of category `unsupported` if the number of layer states is wrong, because the
    ///   state belongs to another model or to an unfinished pass.
    public init(
        _ model: Model<Element>, _ stream: Matrix<Element>, taking state: inout Model<Element>.State,
        _ kernels: Kernels<Element>, checksNumbers: Bool = true, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        guard state.layers.count == model.layers.count else {
            throw CheckpointError(
                .unsupported, path: model.checkpoint.path,
                "the state belongs to another model, or to a run that did not finish",
                expected: "\(model.layers.count) layers", found: "\(state.layers.count)")
        }
        self.stream = stream
        self.model = model
        self.kernels = kernels
        self.checksNumbers = checksNumbers
        self.progress = progress
        first = model.firstValues
        tokenCount = stream.rows / state.sequences
        rotations = model.rotations(
            state.position..<state.position + tokenCount, length: state.length, sequences: state.sequences)
        states = []
        // Moving the layer states out of `state` avoids copying the KV caches.
        swap(&states, &state.layers)
    }

    /// The current layer.
    public var layer: Layer<Element> { model.layers[number] }

    /// Advances to the next layer, and returns false if there are no more layers.
    ///
    /// - Throws: `CheckpointError`: `notFinite` if the output of the previous layer is not finite, `inputOutput` if a
    ///   file has changed or cannot be read, or `cancelled`.
    public mutating func next() throws(CheckpointError) -> Bool {
        if number >= 0, checksNumbers { try model.check(stream, layer: number, kernels) }
        try progress.check(model.checkpoint.path)
        number += 1
        return number < model.layers.count
    }

    /// Returns the input of the current layer's mixer, [tokens, C]: the residual stream after the pre-norm, if there is
    /// one.
    public func mixerInput() -> Matrix<Element> { layer.mixerInput(stream, kernels) }

    /// Runs the current layer's mixer, without its norms, on the input x; both x and the returned output are
    /// [tokens, C].
    public mutating func applyMixer(_ x: Matrix<Element>) -> Matrix<Element> {
        layer.applyMixer(x, &states[number], first: &first, rotation: rotations[number], kernels)
    }

    /// Runs the current layer's mixer with its norms, and returns the branch's output, [tokens, C], without adding it
    /// to the residual stream.
    @specialized(where Element == Float)
    public mutating func mixerBranch() -> Matrix<Element> {
        layer.mixerBranch(stream, &states[number], first: &first, rotation: rotations[number], kernels)
    }

    /// Runs the current layer's feed-forward block with its norms, and returns the branch's output, [tokens, C],
    /// without adding it to the residual stream.
    @specialized(where Element == Float)
    public mutating func feedForwardBranch() -> Matrix<Element> {
        layer.feedForwardBranch(stream, &states[number], kernels)
    }

    /// Adds the output of a branch to the residual stream, in place.
    public func add(_ branch: Matrix<Element>) { kernels.add(branch, to: stream) }

    /// Runs both branches of the current layer, updates the residual stream, and returns a trace for the backward pass.
    public mutating func traced() -> Layer<Element>.Trace {
        let (after, trace) = layer.traced(
            stream, &states[number], first: &first, rotation: rotations[number], kernels)
        stream = after
        return trace
    }

    /// Moves the layer states back into `state`, and advances its position; call this method after the last layer.
    public consuming func finish(_ state: inout Model<Element>.State) {
        swap(&states, &state.layers)
        state.position += tokenCount
    }
}
