public import CheckpointFiles
public import ModelFamilies
public import RWKVInference
package import RWKVLayers
public import RWKVNumerics

/// A model with trainable weights, which its copies share.
///
///     var student = try TrainedModel<Float>(checkpoint, description, training: trained)
///     let run = try student.run(tokens, sequences: 8, kernels)
///     try student.backward(run, gradient, kernels)
public struct TrainedModel<Element: Real> {
    /// A trainable weight, or a part of an adapter that changes one.
    public struct Parameter {
        /// The role and layer of the weight.
        public let place: TensorPlace
        /// The tensor's name in the checkpoint, with a range of rows if the weight is only a part of it, or in the adapter.
        public let name: String
        /// The tensor's shape, or that of the part.
        public let shape: [Int]
        /// Whether this is a part of an adapter.
        public let isOfAdapter: Bool
        /// The numbers as stored: [rows, columns], or one row for a vector.
        public let values: Matrix<Element>
        /// The accumulated gradient.
        public let gradient: Matrix<Element>
        /// The scale of the learning rate, and the weight decay.
        public let training: Training
    }

    /// The model with its current weights.
    public private(set) var model: Model<Element>
    /// All trainable parameters, in checkpoint order.
    public let parameters: [Parameter]
    private let gradients: [WeightGradients<Element>]
    private let adapted: [AdaptedWeight]

    /// A weight that an adapter changes.
    private struct AdaptedWeight {
        let adapter: WeightAdapter<Element>
        /// W', which the model runs with.
        let values: Matrix<Element>
        /// The gradient with respect to W'.
        let gradient: Matrix<Element>
    }

    /// What a forward pass keeps for the backward pass.
    public struct Run {
        /// The residual stream after all layers: [tokens, C].
        public let hidden: Matrix<Element>
        fileprivate let traces: [Layer<Element>.Trace]
        fileprivate let first: FirstValues<Element>
    }

    /// Loads a trainable model from a checkpoint.
    ///
    /// - Parameters:
    ///   - checkpoint: the student's checkpoint.
    ///   - description: what the student was recognised as.
    ///   - trained: the layer weights to train, and how.
    ///   - adapters: the adapters to train instead of the projections; nil to train the projections themselves.
    ///   - teacher: a model that shares those of its matrices that are frozen and identical in the student, so that memory holds
    ///     them once.
    /// - Throws: ``CheckpointError``: `unsupported` if the adapters do not fit the weights, or what loading a model throws.
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
            let columns = tensor.shape.count == 2 ? tensor.shape[1] : tensor.elementCount
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

    /// Updates the model after its parameters changed.
    ///
    /// - Parameter kernels: the kernels to use.
    /// - Throws: ``CheckpointError``: what loading a model throws.
    public mutating func update(_ kernels: Kernels<Element>) throws(CheckpointError) {
        for weight in adapted { weight.values.replaceRows(from: 0, by: weight.adapter.merged(kernels)) }
        try model.reread()
    }

    /// Propagates the gradients of adapted weights, once all are accumulated, to their adapters.
    public func adaptersBackward(_ kernels: Kernels<Element>) {
        for weight in adapted {
            weight.adapter.backward(weight.gradient, kernels)
            weight.gradient.clear()
        }
    }

    /// Runs the model on whole sequences.
    ///
    /// - Parameters:
    ///   - tokens: sequences of equal length, concatenated.
    ///   - sequences: the number of sequences.
    ///   - kernels: the kernels to use.
    ///   - progress: can cancel the work.
    /// - Returns: the residual stream, and what the backward pass needs.
    /// - Throws: ``CheckpointError``: `cancelled`, or what running a model throws.
    public func run(
        _ tokens: [Int], sequences: Int, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> Run {
        let h = try model.embedded(tokens, sequences: sequences, kernels)
        var state = model.start(length: tokens.count / sequences, sequences: sequences)
        // Numbers need not be finite: the optimiser skips a step whose gradients are not.
        var pass = try LayerPass(model, h, taking: &state, kernels, checksNumbers: false, progress: progress)
        var traces: [Layer<Element>.Trace] = []
        while try pass.next() { traces.append(pass.traced()) }
        return Run(hidden: pass.stream, traces: traces, first: pass.first)
    }

    /// Adds the gradients of all trainable weights.
    ///
    /// - Parameters:
    ///   - run: the forward pass, which can be used once.
    ///   - gradient: the gradient with respect to its residual stream, [tokens, C]; overwritten.
    ///   - propagatesFirstValues: whether gradients pass through k_first and v_first to the layer that gives them.
    ///   - kernels: the kernels to use.
    ///   - progress: can cancel the work.
    /// - Throws: ``CheckpointError`` of category `cancelled`.
    public func backward(
        _ run: Run, _ gradient: Matrix<Element>, propagatesFirstValues: Bool = false, _ kernels: Kernels<Element>,
        progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        let first = propagatesFirstValues ? FirstGradients(of: run.first) : nil
        // Below the lowest trained layer no gradient is needed.
        let lowest = parameters.compactMap(\.place.layer).min() ?? model.layers.count
        for number in (lowest..<max(lowest, model.layers.count)).reversed() {
            try progress.check(model.checkpoint.path)
            model.layers[number].backward(
                inPlace: gradient, run.traces[number], first: first, gradients[number], isLast: number == lowest,
                kernels)
        }
    }

    /// The accumulated gradients of a layer's weights.
    package func gradients(ofLayer layer: Int) -> WeightGradients<Element> { gradients[layer] }
}
