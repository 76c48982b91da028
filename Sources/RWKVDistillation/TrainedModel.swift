public import Bytes
public import CheckpointFiles
public import ModelFamilies
public import RWKVInference
package import RWKVLayers
public import RWKVNumerics

/// A model with trainable parameters; copies share the parameters.
///
///     var student = try TrainedModel<Float>(checkpoint, description, training: trained)
///     let run = try student.run(tokens, sequences: 8, kernels)
///     try student.backward(run, gradient, kernels)
public struct TrainedModel<Element: Real> {
    /// A trainable weight, or a trainable tensor of a weight's adapter.
    public struct Parameter {
        /// The role and layer of the weight.
        public let place: TensorPlace
        /// The name of the tensor in the checkpoint or the adapter; if the weight is only part of the tensor, its range
        /// of rows is appended.
        public let name: String
        /// The shape of the tensor, or of the weight if it is only part of the tensor.
        public let shape: [Int]
        /// Whether the parameter belongs to an adapter.
        public let isOfAdapter: Bool
        /// The values in storage order: [rows, columns], or a single row for a vector.
        public let values: Matrix<Element>
        /// The accumulated gradient of the values.
        public let gradient: Matrix<Element>
        /// The learning-rate scale and weight decay of the parameter.
        public let training: Training
    }

    /// The model with its current weights.
    public private(set) var model: Model<Element>
    /// All trainable parameters, in the order of their weights in the checkpoint.
    public let parameters: [Parameter]
    private let gradients: [WeightGradients<Element>]
    private let adapted: [AdaptedWeight]

    /// A weight that is changed by an adapter.
    private struct AdaptedWeight {
        let adapter: WeightAdapter<Element>
        /// The adapted weight W', which the model uses.
        let values: Matrix<Element>
        /// The accumulated gradient with respect to W'.
        let gradient: Matrix<Element>
    }

    /// The results of a forward pass, as needed by the backward pass.
    public struct Run {
        /// The residual stream after the last layer, [tokens, C].
        public let hidden: Matrix<Element>
        fileprivate let traces: [Layer<Element>.Trace]
        fileprivate let first: FirstValues<Element>
    }

    /// Loads a trainable model from a checkpoint.
    ///
    /// - Parameters:
    ///   - checkpoint: the student's checkpoint.
    ///   - description: the description of the student.
    ///   - trained: the layer weights to train, with the learning-rate scale and weight decay of each.
    ///   - adapters: the adapters to train instead of projections; nil to train the projections themselves.
    ///   - teacher: a model whose matrices are shared where the student's are frozen and identical, so that memory
    ///     holds them only once; nil to share none.
    /// - Throws: `CheckpointError`: `unsupported` if an adapter does not fit its weight or there is no weight to
    ///   adapt, or the errors of loading a model.
    public init(
        _ checkpoint: Checkpoint, _ description: ModelDescription, training trained: [TensorPlace: Training],
        by adapters: TrainedAdapters? = nil, sharing teacher: Model<Element>? = nil
    ) throws(CheckpointError) {
        let frozen = try Model<Element>(checkpoint, description)
        let places = description.bindings.sorted {
            ($0.value.position, $0.value.rows?.lowerBound ?? 0) < ($1.value.position, $1.value.rows?.lowerBound ?? 0)
        }.map(\.key)
        var parameters: [Parameter] = []
        var adapted: [AdaptedWeight] = []
        var weights: [TensorPlace: StoredMatrix] = [:]
        var gradients = description.layers.map { _ in WeightGradients<Element>() }
        for place in places {
            guard let binding = description.bindings[place] else { continue }
            let tensor = checkpoint.tensors[binding.position]
            guard let training = trained[place], let layer = place.layer else {
                weights[place] = try teacher?.matrix(place, sameAs: tensor, rows: binding.rows, of: checkpoint)
                continue
            }
            let columns = place.role.shape.count > 1 ? tensor.shape.last ?? 1 : tensor.elementCount
            let values: Matrix<Element> = Matrix(try frozen.numbers(of: place), columns: columns)
            let gradient = Matrix<Element>(zeros: values.rows, columns: columns)
            gradients[layer][place.role] = gradient
            guard let adapters, TrainedAdapters.roles.contains(place.role) else {
                weights[place] = frozen.stored(values, place)
                parameters.append(
                    Parameter(
                        place: place, name: tensor.name + (binding.rows.map { "[\($0)]" } ?? ""),
                        shape: binding.rows.map { [$0.count, columns] } ?? tensor.shape, isOfAdapter: false,
                        values: values, gradient: gradient, training: training))
                continue
            }
            let weight = values.copy()
            weights[place] = frozen.stored(weight, place)
            let adapter = try adapters.adapter(of: values, tensor, in: checkpoint)
            adapted.append(AdaptedWeight(adapter: adapter, values: weight, gradient: gradient))
            for factor in adapter.factors {
                parameters.append(
                    Parameter(
                        place: place, name: TrainedAdapters.name(of: factor.part, tensor),
                        shape: adapters.shape(of: factor), isOfAdapter: true, values: factor.values,
                        gradient: factor.gradient, training: training))
            }
        }
        if adapters != nil, adapted.isEmpty {
            throw CheckpointError(
                .unsupported, path: checkpoint.path,
                "none of the trained weights is a projection that an adapter could change")
        }
        self.parameters = parameters
        self.adapted = adapted
        self.gradients = gradients
        model = try Model(checkpoint, description, replacing: weights)
    }

    /// Updates the model after its parameters have changed.
    ///
    /// - Parameter kernels: the kernels to use.
    /// - Throws: `CheckpointError`: the errors of loading a model.
    public mutating func update(_ kernels: Kernels<Element>) throws(CheckpointError) {
        for weight in adapted { weight.values.replaceRows(from: 0, by: weight.adapter.merged(kernels)) }
        try model.reread()
    }

    /// Propagates the gradients of adapted weights to their adapters.
    ///
    /// Call this method after all batches of a step have been accumulated.
    public func adaptersBackward(_ kernels: Kernels<Element>) {
        for weight in adapted {
            weight.adapter.backward(weight.gradient, kernels)
            weight.gradient.clear()
        }
    }

    /// Runs the model on complete sequences.
    ///
    /// - Parameters:
    ///   - tokens: the tokens of all sequences, concatenated; the sequences have equal length.
    ///   - sequences: the number of sequences.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Returns: the residual stream after the last layer, and a trace of each layer for the backward pass.
    /// - Throws: `CheckpointError`: `cancelled`, or any error from running a model.
    public func run(
        _ tokens: [Int], sequences: Int, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> Run {
        let h = try model.embedded(tokens, sequences: sequences, kernels)
        var state = model.start(length: tokens.count / sequences, sequences: sequences)
        // Numbers can be non-finite here, because the optimiser skips a step whose gradients are not finite.
        var pass = try LayerPass(model, h, taking: &state, kernels, checksNumbers: false, progress: progress)
        var traces: [Layer<Element>.Trace] = []
        while try pass.next() { traces.append(pass.traced()) }
        return Run(hidden: pass.stream, traces: traces, first: pass.first)
    }

    /// Accumulates the gradients of all trained weights, including weights that are changed by adapters.
    ///
    /// - Parameters:
    ///   - run: the results of the forward pass, which can be used only once.
    ///   - gradient: the gradient with respect to the residual stream of `run`, [tokens, C], which is overwritten.
    ///   - propagatesFirstValues: whether gradients flow through k_first and v_first to the layer that provides them.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Throws: `CheckpointError` of category `cancelled`.
    public func backward(
        _ run: Run, _ gradient: Matrix<Element>, propagatesFirstValues: Bool = false, _ kernels: Kernels<Element>,
        progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        let first = propagatesFirstValues ? FirstGradients(of: run.first) : nil
        // Layers below the lowest trained layer do not need gradients.
        let lowest = parameters.compactMap(\.place.layer).min() ?? model.layers.count
        for number in (lowest..<max(lowest, model.layers.count)).reversed() {
            try progress.check(model.checkpoint.path)
            model.layers[number].backward(
                inPlace: gradient, run.traces[number], first: first, gradients[number], isLast: number == lowest,
                kernels)
        }
    }

    /// Returns the accumulators for the gradients of a layer's weights.
    package func gradients(ofLayer layer: Int) -> WeightGradients<Element> { gradients[layer] }
}
