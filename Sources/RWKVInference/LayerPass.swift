public import CheckpointFiles
public import RWKVLayers
public import RWKVNumerics

/// Tokens on their way through a model's layers, front to back: the one loop over layers.
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
    /// The number of the layer at hand.
    public private(set) var number = -1
    /// The first layer's keys and values.
    public private(set) var first: FirstValues<Element>

    private let model: Model<Element>
    private let kernels: Kernels<Element>
    private let progress: WorkProgress
    private let checksNumbers: Bool
    private let rotations: [Rotation<Element>?]
    private let tokenCount: Int
    private var states: [LayerState<Element>]

    /// A pass before its first layer.
    ///
    /// - Parameters:
    ///   - model: whose layers they are.
    ///   - stream: the residual stream before the layers, [tokens, C]; changes as the pass goes on.
    ///   - state: of the tokens before; is empty until ``finish(_:)`` gives it back.
    ///   - kernels: what it is computed with.
    ///   - checksNumbers: whether numbers that are not finite are an error.
    ///   - progress: can stop the work after any layer.
    /// - Throws: ``CheckpointError`` of category `unsupported` where the state is of another model, or of a pass that was not finished.
    public init(
        _ model: Model<Element>, _ stream: Matrix<Element>, taking state: inout Model<Element>.State,
        _ kernels: Kernels<Element>, checksNumbers: Bool = true, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        guard state.layers.count == model.layers.count else {
            throw CheckpointError(
                .unsupported, path: model.checkpoint.path,
                "the state is of another model, or of a run that did not finish",
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
        // Moved, so that no cache is copied.
        swap(&states, &state.layers)
    }

    /// The layer at hand.
    public var layer: Layer<Element> { model.layers[number] }

    /// Goes on to the next layer; false after the last.
    ///
    /// - Throws: ``CheckpointError``: `notFinite` where the layer before gave numbers that are not finite, `inputOutput` or `cancelled`.
    public mutating func next() throws(CheckpointError) -> Bool {
        if number >= 0, checksNumbers { try model.check(stream, layer: number, kernels) }
        try progress.check(model.checkpoint.path)
        number += 1
        return number < model.layers.count
    }

    /// What the mixer of the layer sees: [tokens, C].
    public func mixerInput() -> Matrix<Element> { layer.mixerInput(stream, kernels) }

    /// What the mixer of the layer makes of its input: [tokens, C] to the same.
    public mutating func mix(_ x: Matrix<Element>) -> Matrix<Element> {
        layer.mix(x, &states[number], first: &first, rotation: rotations[number], kernels)
    }

    /// What the mixer of the layer adds to the residual stream: [tokens, C].
    @specialized(where Element == Float)
    public mutating func mixed() -> Matrix<Element> {
        layer.mixed(stream, &states[number], first: &first, rotation: rotations[number], kernels)
    }

    /// What the feed-forward block of the layer adds to the residual stream: [tokens, C].
    @specialized(where Element == Float)
    public mutating func fed() -> Matrix<Element> { layer.fed(stream, &states[number], kernels) }

    /// Adds to the residual stream, in place.
    public func add(_ branch: Matrix<Element>) { kernels.add(branch, to: stream) }

    /// Takes the residual stream through the layer, and gives what gradients need.
    public mutating func traced() -> Layer<Element>.Trace {
        let (after, trace) = layer.traced(
            stream, &states[number], first: &first, rotation: rotations[number], kernels)
        stream = after
        return trace
    }

    /// Gives the state back, after the last layer.
    public consuming func finish(_ state: inout Model<Element>.State) {
        swap(&states, &state.layers)
        state.position += tokenCount
    }
}
