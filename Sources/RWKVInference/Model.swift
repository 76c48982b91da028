public import CheckpointFiles
public import ModelFamilies
public import RWKVLayers
public import RWKVNumerics

/// A model that runs: its weights where they stand in their files, in the type in which they are stored.
///
///     let model = try Model<Float>(checkpoint, description)
///     var state = model.start(length: tokens.count)
///     let hidden = try model.hidden(tokens, &state, kernels)
///     let logits = model.logits(hidden, kernels)
public struct Model<Element: Real>: Sendable {
    /// The checkpoint that it was read from.
    public let checkpoint: Checkpoint
    /// What it is.
    public let description: ModelDescription
    /// Front to back.
    public internal(set) var layers: [Layer<Element>]
    /// How many tokens it knows.
    public var vocabulary: Int { embedding.outputs }
    /// Numbers in the residual stream of a token (C).
    public var width: Int { embedding.inputs }

    /// [V, C], of which each token reads a row.
    let embedding: StoredMatrix
    /// What embedding rows are multiplied by; nil for one.
    package let embeddingScale: Double?
    let embeddingNorm: Norm<Element>?
    let finalNorm: Norm<Element>
    /// [V, C]; the embedding itself where it is tied.
    public let head: StoredMatrix
    let reader: WeightReader<Element>
    /// The rotations that layers turn tokens by, and which of them each layer has.
    let rotaries: [RotaryEmbedding]
    let rotaryOfLayers: [Int?]
    private var memory: TensorMemory { reader.memory }

    /// What a model remembers of the tokens before: copied, it is saved; put back, restored.
    public struct State: Sendable, Equatable {
        /// How many tokens there were.
        public internal(set) var position = 0
        /// How many tokens the sequence was said to have, by which some rotations decide.
        public let length: Int
        /// How many sequences there are, one after the other and of the same length; several come all at once.
        public let sequences: Int
        /// Layer by layer.
        public var layers: [LayerState<Element>]

    }

    /// The state at the start of a sequence.
    ///
    /// - Parameters:
    ///   - length: how many tokens the sequence will have; rotations of type `dynamic` and `longrope` depend on it.
    ///   - sequences: how many there are, whose tokens come all at once.
    /// - Returns: the state.
    public func start(length: Int, sequences: Int = 1) -> State {
        precondition(sequences > 0, "a state of no sequences")
        var layer = LayerState<Element>()
        layer.sequences = sequences
        layer.mixerShift = Array(repeating: 0, count: width)
        layer.feedForwardShift = layer.mixerShift
        let sizes = description.dimensions
        let heads = sizes[.heads] ?? 0
        let size = sizes[.headSize] ?? 0
        return State(
            length: length, sequences: sequences,
            layers: description.kinds.map { kind in
                var layer = layer
                if kind.carriesState { layer.matrices = Array(repeating: 0, count: sequences * heads * size * size) }
                return layer
            })
    }

    /// The residual stream after all layers.
    ///
    /// - Parameters:
    ///   - tokens: those that follow what the state has seen, one sequence after the other; at least one.
    ///   - state: what was before; carried on, and of no use any more where this throws.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work after any layer.
    /// - Returns: [tokens, C].
    /// - Throws: ``CheckpointError``: `malformed` for tokens that there are not, and sequences of different lengths, `unsupported` for
    ///   several sequences of a model that mixes neighbouring tokens, `notFinite`, `inputOutput` where a file became shorter, or
    ///   `cancelled`.
    @specialized(where Element == Float)
    public func hidden(
        _ tokens: [Int], _ state: inout State, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> Matrix<Element> {
        guard state.sequences == 1 || state.position == 0 else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path,
                "several sequences cannot be continued: their tokens come all at once")
        }
        let h = try embedded(tokens, sequences: state.sequences, kernels)
        var pass = try LayerPass(self, h, taking: &state, kernels, progress: progress)
        while try pass.next() {
            pass.add(pass.mixed())
            pass.add(pass.fed())
        }
        try memory.check()
        pass.finish(&state)
        return h
    }

    /// The residual stream before the layers.
    ///
    /// - Parameters:
    ///   - tokens: at least one.
    ///   - sequences: how many sequences they are of, all of the same length.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    /// - Throws: as ``hidden(_:_:_:progress:)``.
    public func embedded(
        _ tokens: [Int], sequences: Int = 1, _ kernels: Kernels<Element>
    ) throws(CheckpointError) -> Matrix<Element> {
        guard !tokens.isEmpty else {
            throw CheckpointError(.malformed, path: checkpoint.path, "there are no tokens to run it on")
        }
        guard sequences > 0, tokens.count % sequences == 0 else {
            throw CheckpointError(
                .malformed, path: checkpoint.path, "tokens cannot be divided into sequences of the same length",
                expected: "a multiple of \(sequences)", found: "\(tokens.count)")
        }
        guard sequences == 1 || !description.architecture.mixesNeighbours else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path,
                "it mixes each token with the one before, so it runs one sequence at a time", found: "\(sequences)")
        }
        if let token = tokens.first(where: { !(0..<vocabulary ~= $0) }) {
            throw CheckpointError(
                .malformed, path: checkpoint.path, "the model has no such token", expected: "0 to \(vocabulary - 1)",
                found: "\(token)")
        }
        var h = kernels.gather(embedding, rows: tokens)
        if let embeddingScale { kernels.scale(inPlace: h, by: embeddingScale) }
        if let embeddingNorm { h = embeddingNorm(h, kernels) }
        try check(h, layer: nil, kernels)
        return h
    }

    /// What the first layers are to do about first values.
    public var firstValues: FirstValues<Element> {
        description.firstValues == .layer0 ? .wanted : .ofTimeMixing
    }

    /// How each layer turns tokens at these positions; nil for layers that do not.
    ///
    /// - Parameters:
    ///   - positions: of the tokens.
    ///   - length: of the whole sequence.
    ///   - sequences: how many there are, one after the other, of tokens at these positions.
    /// - Returns: by layer; layers that turn alike share one.
    public func rotations(
        _ positions: Range<Int>, length: Int, sequences: Int = 1
    ) -> [Rotation<Element>?] {
        guard let size = description.dimensions[.headSize] else { return layers.map { _ in nil } }
        let made = rotaries.map {
            Rotation<Element>(
                RotaryFrequencies($0, headSize: size, length: length), positions: positions, sequences: sequences)
        }
        return rotaryOfLayers.map { number in number.map { made[$0] } }
    }

    /// Logits: the head's product with what the final norm makes of the residual stream.
    ///
    /// - Parameters:
    ///   - hidden: [tokens, C], behind all layers.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, V].
    /// - Throws: ``CheckpointError``, as ``hidden(_:_:_:progress:)``.
    @specialized(where Element == Float)
    public func logits(_ hidden: Matrix<Element>, _ kernels: Kernels<Element>) throws(CheckpointError)
        -> Matrix<Element>
    {
        let logits = uncheckedLogits(hidden, kernels)
        try checkFiles()
        try check(logits, layer: nil, kernels)
        return logits
    }

    /// The same where numbers need not be finite.
    package func uncheckedLogits(_ hidden: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        let logits = kernels.product(finalNorm(hidden, kernels), head)
        if let cap = description.logitSoftcap { kernels.softcap(inPlace: logits, cap: cap) }
        return logits
    }

    /// Throws where a file became shorter under it: ``CheckpointError`` of category `inputOutput`.
    package func checkFiles() throws(CheckpointError) { try memory.check() }

    /// The gradient of ``logits(_:_:)``' input by that of what came out.
    ///
    /// - Parameters:
    ///   - dlogits: [tokens, V]; used up.
    ///   - logits: what came out, [tokens, V].
    ///   - hidden: [tokens, C], behind all layers.
    ///   - kernels: what it is computed with.
    /// - Returns: [tokens, C].
    public func logitsBackward(
        _ dlogits: Matrix<Element>, _ logits: Matrix<Element>, _ hidden: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        if let cap = description.logitSoftcap { kernels.softcapBackward(inPlace: dlogits, logits, cap: cap) }
        return finalNorm.backward(kernels.product(dlogits, head.transposed), hidden, .finalNormWeight, [:], kernels)
    }

    /// A layer's weight in the model's own numbers, as it stands in its checkpoint.
    ///
    /// - Parameter place: where there is a weight.
    /// - Returns: all of it.
    /// - Throws: ``CheckpointError``, as when models are loaded.
    package func numbers(of place: TensorPlace) throws(CheckpointError) -> [Element] {
        try reader.numbers(of: place)
    }

    /// A matrix of the model that another checkpoint holds as well; nil where it does not.
    ///
    /// - Parameters:
    ///   - place: of a matrix in both.
    ///   - tensor: of the other checkpoint.
    ///   - rows: the rows of it that the matrix is; nil for all.
    ///   - other: that checkpoint.
    /// - Returns: the model's own.
    /// - Throws: ``CheckpointError``, as when models are loaded.
    package func matrix(
        _ place: TensorPlace, sameAs tensor: TensorInfo, rows: Range<Int>?, of other: Checkpoint
    ) throws(CheckpointError) -> StoredMatrix? {
        guard let binding = description.bindings[place], tensor.shape.count == 2, place.role != .bonus,
            binding.rows == rows,
            try checkpoint.hasSameBytes(checkpoint.tensors[binding.position], as: tensor, of: other)
        else { return nil }
        return try reader.matrix(place.role, place.layer)
    }

    /// A matrix as the model reads that weight.
    package func stored(_ matrix: Matrix<Element>, _ place: TensorPlace) -> StoredMatrix {
        StoredMatrix(sharing: matrix, isByInput: reader.isByInput(place.role))
    }

    /// Throws where numbers are not finite, as ``hidden(_:_:_:progress:)`` does.
    ///
    /// - Parameters:
    ///   - x: what was computed.
    ///   - layer: by which layer; nil for what is in none.
    ///   - kernels: what it was computed with.
    /// - Throws: ``CheckpointError`` of category `notFinite`, with the weight that is not where there is one, or `inputOutput`.
    public func check(
        _ x: Matrix<Element>, layer: Int?, _ kernels: Kernels<Element>
    ) throws(CheckpointError) {
        guard !kernels.areFinite(x) else { return }
        try memory.check()
        let positions = Set(description.bindings.filter { $0.key.layer == layer }.map(\.value.position))
        let own = positions.map { checkpoint.tensors[$0] }
            .sorted { $0.byteRange.lowerBound < $1.byteRange.lowerBound }
        for (tensor, scan) in zip(
            own, try checkpoint.scan(own, statistics: true, sha256: false, threads: kernels.threads))
        {
            guard let statistics = scan.statistics, statistics.nans + statistics.infinities > 0 else { continue }
            throw CheckpointError(
                .notFinite, path: checkpoint.files[tensor.file].path,
                "a weight is not finite, and what is computed with it is not either", tensor: tensor.name,
                found: "\(statistics.nans) NaN, \(statistics.infinities) Inf")
        }
        throw CheckpointError(
            .notFinite, path: checkpoint.path,
            layer.map { "layer \($0) gives numbers that are not finite, though its weights are" }
                ?? "embedding or head give numbers that are not finite, though their weights are")
    }
}

extension Model {
    /// Runs a sequence, some tokens at a time, and makes logits of some rows at a time, so that memory does not grow with its length.
    ///
    /// - Parameters:
    ///   - tokens: those that follow what the state has seen.
    ///   - state: what was before; carried on, and of no use any more where this throws.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    ///   - receive: is given the logits of some tokens, [rows, V], and the place among `tokens` of the first.
    /// - Throws: as ``hidden(_:_:_:progress:)``; what `receive` throws.
    public func run(
        _ tokens: [Int], _ state: inout State, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress(),
        receive: (Int, Matrix<Element>) throws -> Void
    ) throws {
        for part in tokens.count.parts(of: tokensTogether) {
            let hidden = try hidden(Array(tokens[part]), &state, kernels, progress: progress)
            for rows in part.count.parts(of: logitsTogether) {
                try receive(part.lowerBound + rows.lowerBound, try logits(hidden.rows(rows), kernels))
            }
        }
    }
}

/// Tokens that go through layers together: enough for matrix products, and no more memory than that takes.
package let tokensTogether = 512
/// Rows of logits that are made together: each has a vocabulary's length.
package let logitsTogether = 64
