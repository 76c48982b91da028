public import CheckpointFiles
public import ModelFamilies
public import RWKVInference
package import RWKVLayers
public import RWKVNumerics

/// A model some of whose weights change; copies share them.
///
///     var student = try TrainedModel<Float>(checkpoint, description, training: trained)
///     let run = try student.run(tokens, sequences: 8, kernels)
///     try student.backward(run, gradient, kernels)
public struct TrainedModel<Element: Real> {
    /// A weight that changes, or a part of what changes one, in the order of the checkpoint.
    public struct Parameter {
        /// The weight.
        public let place: TensorPlace
        /// The name of its tensor in the checkpoint, with its rows where it is not all of it, or in an adapter.
        public let name: String
        /// The tensor's sizes.
        public let shape: [Int]
        /// Whether it is an adapter's.
        public let isOfAdapter: Bool
        /// As the tensor stands: [rows, columns], or a row.
        public let values: Matrix<Element>
        /// What gradients are added to.
        public let gradient: Matrix<Element>
        /// How it is trained.
        public let training: Training
    }

    /// The model as it is now.
    public private(set) var model: Model<Element>
    /// What changes.
    public let parameters: [Parameter]
    private let gradients: [WeightGradients<Element>]
    private let adapted: [AdaptedWeight]

    /// A weight that an adapter changes.
    private struct AdaptedWeight {
        let adapter: WeightAdapter<Element>
        /// W', which the model runs with.
        let values: Matrix<Element>
        /// Of W'.
        let gradient: Matrix<Element>
    }

    /// What a run leaves for gradients.
    public struct Run {
        /// The residual stream after all layers: [tokens, C].
        public let hidden: Matrix<Element>
        fileprivate let traces: [Layer<Element>.Trace]
        fileprivate let first: FirstValues<Element>
    }

    /// A model that is read from a checkpoint.
    ///
    /// - Parameters:
    ///   - checkpoint: of a student.
    ///   - description: what it was found to be.
    ///   - trained: the weights of layers that change.
    ///   - adapters: what is trained in the place of projections; nil for themselves.
    ///   - teacher: whose matrices are taken where the student's are the same and do not change, so that memory holds them once.
    /// - Throws: ``CheckpointError``: `unsupported` where adapters do not go with the weights; as models do.
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
                .unsupported, path: checkpoint.path, "no projection is trained that an adapter could change")
        }
        self.parameters = parameters
        self.adapted = adapted
        self.gradients = gradients
        model = try Model(checkpoint, description, replacing: weights)
    }

    /// Takes in what became of the weights.
    ///
    /// - Parameter kernels: what it is computed with.
    /// - Throws: ``CheckpointError``, as models do.
    public mutating func update(_ kernels: Kernels<Element>) throws(CheckpointError) {
        for weight in adapted { weight.values.replaceRows(from: 0, by: weight.adapter.merged(kernels)) }
        try model.reread()
    }

    /// Passes the gradients of weights on to what changes them, once they are all there.
    public func adaptersBackward(_ kernels: Kernels<Element>) {
        for weight in adapted {
            weight.adapter.backward(weight.gradient, kernels)
            weight.gradient.clear()
        }
    }

    /// Runs whole sequences.
    ///
    /// - Parameters:
    ///   - tokens: of sequences of the same length, one behind the other.
    ///   - sequences: how many there are.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    /// - Returns: the residual stream, and what gradients need.
    /// - Throws: ``CheckpointError``, as models do, or of category `cancelled`.
    public func run(
        _ tokens: [Int], sequences: Int, _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> Run {
        let h = try model.embedded(tokens, sequences: sequences, kernels)
        var state = model.start(length: tokens.count / sequences, sequences: sequences)
        // Gradients that are not finite are their reader's affair.
        var pass = try LayerPass(model, h, taking: &state, kernels, checksNumbers: false, progress: progress)
        var traces: [Layer<Element>.Trace] = []
        while try pass.next() { traces.append(pass.traced()) }
        return Run(hidden: pass.stream, traces: traces, first: pass.first)
    }

    /// Adds the gradients of all weights that change.
    ///
    /// - Parameters:
    ///   - run: which serves once.
    ///   - gradient: of its residual stream, [tokens, C]; used up.
    ///   - passesFirstValues: whether gradients pass through the first keys and values to the layer that gives them.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    /// - Throws: ``CheckpointError`` of category `cancelled`.
    public func backward(
        _ run: Run, _ gradient: Matrix<Element>, passesFirstValues: Bool = false, _ kernels: Kernels<Element>,
        progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) {
        let first = passesFirstValues ? FirstGradients(of: run.first) : nil
        // What is in front of all that changes is of no use.
        let lowest = parameters.compactMap(\.place.layer).min() ?? model.layers.count
        for number in (lowest..<max(lowest, model.layers.count)).reversed() {
            try progress.check(model.checkpoint.path)
            model.layers[number].backward(
                inPlace: gradient, run.traces[number], first: first, gradients[number], isLast: number == lowest,
                kernels)
        }
    }

    /// Where the gradients of a layer's weights are added up.
    package func gradients(ofLayer layer: Int) -> WeightGradients<Element> { gradients[layer] }
}
