public import Bytes
public import CheckpointFiles
public import ModelFamilies
public import RWKVLayers
public import RWKVNumerics

/// A model that is ready to run.
///
/// Weight matrices keep their stored dtype, and are memory-mapped where their files allow it.
///
///     let model = try Model<Float>(checkpoint, description)
///     var state = model.start(length: tokens.count)
///     let hidden = try model.hidden(tokens, &state, kernels)
///     let logits = try model.logits(hidden, kernels)
public struct Model<Element: Real>: Sendable {
    /// The checkpoint that the model was loaded from.
    public let checkpoint: Checkpoint
    /// The description of the model: its architecture, dimensions and settings.
    public let description: ModelDescription
    /// The layers of the model, in order.
    public internal(set) var layers: [Layer<Element>]
    /// The vocabulary size (V).
    public var vocabulary: Int { embedding.outputs }
    /// The width of the residual stream: its number of channels (C).
    public var width: Int { embedding.inputs }

    /// The embedding matrix, [V, C]; each token looks up one row.
    let embedding: StoredMatrix
    /// The factor that scales embedding rows; nil if rows are not scaled.
    package let embeddingScale: Double?
    let embeddingNorm: Norm<Element>?
    let finalNorm: Norm<Element>
    /// The output head, [V, C]; the same matrix as the embedding if the two are tied.
    public let head: StoredMatrix
    let reader: WeightReader<Element>
    /// The distinct RoPE settings of the layers, and for each layer, the index of its settings; nil for a layer without
    /// RoPE.
    let rotaries: [RotaryEmbedding]
    let rotaryIndexByLayer: [Int?]
    private var memory: TensorMemory { reader.memory }

    /// A model's state after the preceding tokens.
    ///
    /// To save the state, copy it; to restore the state, assign the copy back.
    public struct State: Sendable, Equatable {
        /// The number of tokens processed so far.
        public internal(set) var position = 0
        /// The expected length of the sequence in tokens, which some types of RoPE depend on.
        public let length: Int
        /// The number of concatenated sequences of equal length; if more than one, all tokens must be run in one call.
        public let sequences: Int
        /// The state of each layer, in order.
        public var layers: [LayerState<Element>]

    }

    /// Returns the initial state, for the start of a sequence.
    ///
    /// - Parameters:
    ///   - length: the expected length of the sequence in tokens; affects only RoPE of types `dynamic` and `longrope`.
    ///   - sequences: the number of concatenated sequences; if more than one, all tokens must be run in one call.
    /// - Returns: the initial state.
    public func start(length: Int, sequences: Int = 1) -> State {
        precondition(sequences > 0, "a state needs at least one sequence")
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

    /// Runs tokens through all layers, and returns the residual stream after the last layer.
    ///
    /// - Parameters:
    ///   - tokens: the tokens that follow those in the state, at least one; several sequences are concatenated.
    ///   - state: the state after the preceding tokens, which is updated; do not use it again if this method throws.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work after any layer.
    /// - Returns: the residual stream after the last layer, [tokens, C].
    /// - Throws: `CheckpointError`: `malformed` if there are no tokens, if a token is outside the vocabulary, or if
    ///   tokens cannot be divided into sequences of equal length; `unsupported` if the state belongs to another model,
    ///   or if it has several sequences and either it already has tokens or the model has channel mixing; `notFinite`;
    ///   `inputOutput` if a file has changed or cannot be read; or `cancelled`.
    @specialized(where Element == Float)
    public func hidden(
        _ tokens: [Int], _ state: inout State, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> Matrix<Element> {
        guard state.sequences == 1 || state.position == 0 else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path,
                "several sequences cannot be continued: all their tokens must be run in one call")
        }
        let h = try embedded(tokens, sequences: state.sequences, kernels)
        var pass = try LayerPass(self, h, taking: &state, kernels, progress: progress)
        while try pass.next() {
            pass.add(pass.mixerBranch())
            pass.add(pass.feedForwardBranch())
        }
        try memory.check()
        pass.finish(&state)
        return h
    }

    /// Embeds tokens, and returns the residual stream before the first layer.
    ///
    /// - Parameters:
    ///   - tokens: the tokens to embed, at least one.
    ///   - sequences: the number of concatenated sequences of equal length.
    ///   - kernels: the kernels to use.
    /// - Returns: the residual stream before the first layer, [tokens, C].
    /// - Throws: `CheckpointError`: `malformed` if there are no tokens, if a token is outside the vocabulary, or if
    ///   tokens cannot be divided into sequences of equal length; `unsupported` for several sequences if the model has
    ///   channel mixing; `notFinite`; or `inputOutput` if a file has changed or cannot be read.
    public func embedded(
        _ tokens: [Int], sequences: Int = 1, _ kernels: Kernels<Element>
    ) throws(CheckpointError) -> Matrix<Element> {
        guard !tokens.isEmpty else {
            throw CheckpointError(.malformed, path: checkpoint.path, "there are no tokens to run the model on")
        }
        guard sequences > 0, tokens.count % sequences == 0 else {
            throw CheckpointError(
                .malformed, path: checkpoint.path, "tokens cannot be divided into sequences of the same length",
                expected: "a multiple of \(sequences)", found: "\(tokens.count)")
        }
        guard sequences == 1 || !description.architecture.body.feedForward.shiftsTokens else {
            throw CheckpointError(
                .unsupported, path: checkpoint.path,
                "channel mixing mixes each token with the one before, so the model runs one sequence at a time",
                found: "\(sequences)")
        }
        if let token = tokens.first(where: { !(0..<vocabulary ~= $0) }) {
            throw CheckpointError(
                .malformed, path: checkpoint.path, "a token is outside the vocabulary",
                expected: "0 to \(vocabulary - 1)",
                found: "\(token)")
        }
        var h = kernels.gather(embedding, rows: tokens)
        if let embeddingScale { kernels.scale(inPlace: h, by: embeddingScale) }
        if let embeddingNorm { h = embeddingNorm(h, kernels) }
        try check(h, layer: nil, kernels)
        return h
    }

    /// The initial state of k_first and v_first, which determines the layer that provides them.
    public var firstValues: FirstValues<Element> {
        description.firstValues == .layer0 ? .wanted : .ofTimeMixing
    }

    /// Returns the RoPE rotation of each layer for tokens at the given positions; nil for a layer without RoPE.
    ///
    /// - Parameters:
    ///   - positions: the positions of the tokens.
    ///   - length: the expected length of the sequence in tokens; affects only RoPE of types `dynamic` and `longrope`.
    ///   - sequences: the number of concatenated sequences; each has tokens at these positions.
    /// - Returns: the rotation of each layer, in order; layers with the same RoPE settings share a rotation.
    public func rotations(
        _ positions: Range<Int>, length: Int, sequences: Int = 1
    ) -> [Rotation<Element>?] {
        guard let size = description.dimensions[.headSize] else { return layers.map { _ in nil } }
        let made = rotaries.map {
            Rotation<Element>(
                RotaryFrequencies($0, headSize: size, length: length), positions: positions, sequences: sequences)
        }
        return rotaryIndexByLayer.map { number in number.map { made[$0] } }
    }

    /// Computes logits by applying the final norm, the head and the logit softcap, if there is one, to the residual
    /// stream.
    ///
    /// - Parameters:
    ///   - hidden: the residual stream after the last layer, [tokens, C].
    ///   - kernels: the kernels to use.
    /// - Returns: the logits, [tokens, V].
    /// - Throws: `CheckpointError`: `notFinite`, or `inputOutput` if a file has changed or cannot be read.
    @specialized(where Element == Float)
    public func logits(_ hidden: Matrix<Element>, _ kernels: Kernels<Element>) throws(CheckpointError)
        -> Matrix<Element>
    {
        let logits = uncheckedLogits(hidden, kernels)
        try checkFiles()
        try check(logits, layer: nil, kernels)
        return logits
    }

    /// Computes the same logits as ``logits(_:_:)``, without checking that they are finite and that files are
    /// unchanged.
    package func uncheckedLogits(_ hidden: Matrix<Element>, _ kernels: Kernels<Element>) -> Matrix<Element> {
        let logits = kernels.product(finalNorm(hidden, kernels), head)
        if let cap = description.logitSoftcap { kernels.softcap(inPlace: logits, cap: cap) }
        return logits
    }

    /// Checks that no mapped file has changed, and throws `CheckpointError` of category `inputOutput` if one has.
    package func checkFiles() throws(CheckpointError) { try memory.check() }

    /// Computes the gradient with respect to the residual stream from the gradient with respect to the logits.
    ///
    /// - Parameters:
    ///   - dlogits: the gradient with respect to the logits, [tokens, V], which is overwritten.
    ///   - logits: the logits that ``logits(_:_:)`` computed, [tokens, V].
    ///   - hidden: the residual stream after the last layer, [tokens, C].
    ///   - kernels: the kernels to use.
    /// - Returns: the gradient with respect to the residual stream, [tokens, C].
    public func logitsBackward(
        _ dlogits: Matrix<Element>, _ logits: Matrix<Element>, _ hidden: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> Matrix<Element> {
        if let cap = description.logitSoftcap { kernels.softcapBackward(inPlace: dlogits, logits, cap: cap) }
        return finalNorm.backward(kernels.product(dlogits, head.transposed), hidden, .finalNormWeight, [:], kernels)
    }

    /// Returns the values of a weight, converted to `Element`, in storage order.
    ///
    /// - Parameter place: the role and layer of the weight.
    /// - Returns: all values of the weight.
    /// - Throws: `CheckpointError`: the errors of ``init(_:_:replacing:)``.
    package func numbers(of place: TensorPlace) throws(CheckpointError) -> [Element] {
        try reader.numbers(of: place)
    }

    /// Returns this model's matrix for a weight if another checkpoint stores the same bytes for it; otherwise returns
    /// nil.
    ///
    /// - Parameters:
    ///   - place: the role and layer of the weight.
    ///   - tensor: the tensor in the other checkpoint that contains the weight.
    ///   - rows: the rows of `tensor` that make up the weight; nil if the weight is the entire tensor.
    ///   - other: the other checkpoint.
    /// - Returns: this model's matrix, or nil.
    /// - Throws: `CheckpointError`: the errors of ``init(_:_:replacing:)``.
    package func matrix(
        _ place: TensorPlace, sameAs tensor: TensorInfo, rows: Range<Int>?, of other: Checkpoint
    ) throws(CheckpointError) -> StoredMatrix? {
        guard let binding = description.bindings[place], tensor.shape.count == 2, place.role != .bonus,
            binding.rows == rows,
            try checkpoint.hasSameBytes(checkpoint.tensors[binding.position], as: tensor, of: other)
        else { return nil }
        return try reader.matrix(place.role, place.layer)
    }

    /// Returns a stored matrix that shares the values of `matrix`, which must be in the storage order of the weight at
    /// `place`.
    package func stored(_ matrix: Matrix<Element>, _ place: TensorPlace) -> StoredMatrix {
        StoredMatrix(sharing: matrix, isInputMajor: reader.isInputMajor(place.role))
    }

    /// Throws an error if any number is not finite.
    ///
    /// The error names the first non-finite weight that could have caused this, if there is one.
    ///
    /// - Parameters:
    ///   - x: the numbers to check.
    ///   - layer: the layer that computed the numbers; nil if the embedding or the head did.
    ///   - kernels: the kernels to use.
    /// - Throws: `CheckpointError`: `notFinite`, or `inputOutput` if a file has changed or cannot be read.
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
                "a weight is not finite, so results computed with it are not finite either", tensor: tensor.name,
                found: "\(statistics.nans) NaN, \(statistics.infinities) Inf")
        }
        throw CheckpointError(
            .notFinite, path: checkpoint.path,
            layer.map { "the output of layer \($0) is not finite, though its weights are" }
                ?? "the output of the embedding or the head is not finite, though their weights are")
    }
}

extension Model {
    /// Runs a sequence in chunks, and passes the logits of each chunk to a closure.
    ///
    /// The memory needed for activations and logits does not grow with the length of the sequence.
    ///
    /// - Parameters:
    ///   - tokens: the tokens that follow those in the state.
    ///   - state: the state after the preceding tokens, which is updated; do not use it again if this method throws.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work after any layer.
    ///   - receive: a closure that is called for each chunk of logits, with the index in `tokens` of the chunk's first
    ///     token, and the logits, [rows, V].
    /// - Throws: the errors of ``hidden(_:_:_:progress:)`` and of `receive`.
    public func run(
        _ tokens: [Int], _ state: inout State, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress(),
        receive: (Int, Matrix<Element>) throws -> Void
    ) throws {
        for part in tokens.count.parts(of: tokensPerChunk) {
            let hidden = try hidden(Array(tokens[part]), &state, kernels, progress: progress)
            for rows in part.count.parts(of: logitRowsPerChunk) {
                try receive(part.lowerBound + rows.lowerBound, try logits(hidden.rows(rows), kernels))
            }
        }
    }
}

/// The number of tokens that run through the layers at a time.
///
/// The number is large enough for efficient matrix products, and small enough to keep activations small.
package let tokensPerChunk = 512
/// The number of rows of logits that are computed at a time; each row has V logits.
package let logitRowsPerChunk = 64
