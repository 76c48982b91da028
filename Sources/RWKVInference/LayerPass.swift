public import CheckpointFiles
public import RWKVLayers
public import RWKVNumerics

/// A forward pass of tokens through a model's layers, in order.
///
///     var pass = try LayerPass(model, stream, taking: &state, kernels)
///     while try pass.next() {
///         pass.add(pass.mixed())
///         pass.add(pass.fed())
///     }
///     pass.finish(&state)
public struct LayerPass<Element: Real> {
    /// The residual stream: [tokens, C].
    public private(set) var stream: Matrix<Element>
    /// The index of the current layer.
    public private(set) var number = -1
    /// The first layer's keys and values (k_first, v_first), which later layers mix in.
    public private(set) var first: FirstValues<Element>

    private let model: Model<Element>
    private let kernels: Kernels<Element>
    private let progress: WorkProgress
    private let checksNumbers: Bool
    private let rotations: [Rotation<Element>?]
    private let tokenCount: Int
    private var states: [LayerState<Element>]

    /// Creates a pass positioned before the first layer.
    ///
    /// - Parameters:
    ///   - model: the model whose layers run.
    ///   - stream: the residual stream before the layers, [tokens, C]; updated in place.
    ///   - state: the state after the preceding tokens; the pass takes the layer states, and ``finish(_:)`` returns
    ///     them.
    ///   - kernels: the kernels to use.
    ///   - checksNumbers: whether non-finite numbers are an error.
    ///   - progress: can cancel the work after any layer.
    /// - Throws: ``CheckpointError`` of category `unsupported` if the state belongs to another model, or to an
    ///   unfinished pass.
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
        // Moving the layer states out of `state` avoids copying caches.
        swap(&states, &state.layers)
    }

    /// The current layer.
    public var layer: Layer<Element> { model.layers[number] }

    /// Advances to the next layer; returns false after the last.
    ///
    /// - Throws: ``CheckpointError``: `notFinite` if the output of the previous layer is not finite, `inputOutput` or
    ///   `cancelled`.
    public mutating func next() throws(CheckpointError) -> Bool {
        if number >= 0, checksNumbers { try model.check(stream, layer: number, kernels) }
        try progress.check(model.checkpoint.path)
        number += 1
        return number < model.layers.count
    }

    /// Returns the input of the current layer's mixer, [tokens, C], after any pre-norm.
    public func mixerInput() -> Matrix<Element> { layer.mixerInput(stream, kernels) }

    /// Runs the current layer's mixer on the input x, [tokens, C]; returns the mixer's output, [tokens, C].
    public mutating func mix(_ x: Matrix<Element>) -> Matrix<Element> {
        layer.mix(x, &states[number], first: &first, rotation: rotations[number], kernels)
    }

    /// Runs the current layer's mixer; returns what it adds to the residual stream, [tokens, C].
    @specialized(where Element == Float)
    public mutating func mixed() -> Matrix<Element> {
        layer.mixed(stream, &states[number], first: &first, rotation: rotations[number], kernels)
    }

    /// Runs the current layer's feed-forward block; returns what it adds to the residual stream, [tokens, C].
    @specialized(where Element == Float)
    public mutating func fed() -> Matrix<Element> { layer.fed(stream, &states[number], kernels) }

    /// Adds `branch` to the residual stream in place.
    public func add(_ branch: Matrix<Element>) { kernels.add(branch, to: stream) }

    /// Runs the current layer on the residual stream; returns what the backward pass needs.
    public mutating func traced() -> Layer<Element>.Trace {
        let (after, trace) = layer.traced(
            stream, &states[number], first: &first, rotation: rotations[number], kernels)
        stream = after
        return trace
    }

    /// Returns the layer states to the caller after the last layer, and advances the position.
    public consuming func finish(_ state: inout Model<Element>.State) {
        swap(&states, &state.layers)
        state.position += tokenCount
    }
}
