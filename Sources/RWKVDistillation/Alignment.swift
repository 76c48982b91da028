public import Bytes
import CheckpointFiles
import ModelFamilies
public import RWKVInference
import RWKVLayers
public import RWKVNumerics

/// Stage 1 of distillation, in which each time-mixing layer of the student learns to reproduce the output of the
/// teacher's mixer for the same input.
///
/// All layers are trained in a single pass. Each layer takes its input from the teacher's residual stream, so that its
/// error does not affect the layers after it.
public struct Alignment: Sendable, Hashable {
    /// The loss function, which measures the distance between the outputs of the student and the teacher.
    public var loss = AlignmentLoss.relativeL2
    /// Whether gradients flow through k_first and v_first to the layer that provides them.
    public var propagatesFirstValues = false

    /// Creates an alignment with the relative L2 loss, in which k_first and v_first are detached.
    public init() {}

    /// The figures that compare the output s of a student layer with the output t of the teacher's layer.
    public struct LayerFigures: Sendable, Hashable {
        /// The index of the layer.
        public internal(set) var layer: Int
        /// The loss of the layer.
        public internal(set) var loss: Double
        /// The mean squared error between t and s.
        public internal(set) var meanSquaredError: Double
        /// The relative error |t - s| / |t|.
        public internal(set) var relativeError: Double
        /// The cosine similarity of t and s.
        public internal(set) var cosine: Double
        /// The ratio of the norms, |t| / |s|.
        public internal(set) var scale: Double
    }

    /// Accumulates the gradients of the loss, averaged over layers, for the given sequences.
    ///
    /// - Parameters:
    ///   - student: the model to train.
    ///   - teacher: a model with the same width and number of layers as the student.
    ///   - tokens: the tokens of all sequences, concatenated; the sequences have equal length.
    ///   - sequences: the number of sequences.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Returns: the figures of each time-mixing layer, in layer order.
    /// - Throws: `CheckpointError`: `cancelled`, or any error from running a model.
    public func callAsFunction<Element: Real>(
        _ student: TrainedModel<Element>, _ teacher: Model<Element>, _ tokens: [Int], sequences: Int,
        _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> [LayerFigures] {
        let aligned = student.model.description.layers.indices.filter {
            student.model.description.layers[$0].kind.carriesState
        }
        // If layer 0 is attention, it can provide the k_first and v_first that time-mixing layers mix in.
        let givesFirst = student.model.description.firstValues == .layer0 && aligned.first != 0
        var pairs = try teacherPairs(teacher, (givesFirst ? [0] : []) + aligned, tokens, sequences, kernels, progress)
        guard let last = pairs.last else { return [] }
        let lastNorm = AlignmentLoss.meanNorm(kernels.distances(last.output, to: last.output).targetSquares)

        let length = tokens.count / sequences
        let rotations = student.model.rotations(0..<length, length: length, sequences: sequences)
        let start = student.model.start(length: length, sequences: sequences)
        var first = student.model.firstValues
        if givesFirst {
            var state = start.layers[0]
            _ = student.model.layers[0].applyMixer(
                pairs.removeFirst().input, &state, first: &first, rotation: rotations[0], kernels)
        }
        var firstGradients: FirstGradients<Element>?
        var kept: (gradient: Matrix<Element>, trace: Layer<Element>.Trace)?
        var figures: [LayerFigures] = []
        for (layer, pair) in zip(aligned, pairs) {
            try progress.check(teacher.checkpoint.path)
            var state = start.layers[layer]
            let (output, trace) = student.model.layers[layer].tracedMixer(
                pair.input, &state, first: &first, rotation: rotations[layer], kernels)
            // The total loss is the mean over layers, so each layer's gradient is divided by the number of layers.
            figures.append(
                loss.figures(
                    ofLayer: layer, inPlace: output, pair.output, lastNorm: lastNorm,
                    gradientScale: 1 / Double(aligned.count), kernels))
            if propagatesFirstValues, !givesFirst, kept == nil {
                firstGradients = FirstGradients(of: first)
                kept = (output, trace)
                continue
            }
            student.model.layers[layer].mixerBackward(
                output, trace, first: firstGradients, student.gradients(ofLayer: layer), kernels)
        }
        if let kept, let layer = aligned.first {
            student.model.layers[layer].mixerBackward(
                kept.gradient, kept.trace, first: firstGradients, student.gradients(ofLayer: layer), kernels)
        }
        return figures
    }

    /// Returns the input and output of the teacher's mixer in each of the given layers.
    private func teacherPairs<Element: Real>(
        _ teacher: Model<Element>, _ layers: [Int], _ tokens: [Int], _ sequences: Int, _ kernels: Kernels<Element>,
        _ progress: WorkProgress
    ) throws(CheckpointError) -> [(input: Matrix<Element>, output: Matrix<Element>)] {
        let h = try teacher.embedded(tokens, sequences: sequences, kernels)
        var state = teacher.start(length: tokens.count / sequences, sequences: sequences)
        var pass = try LayerPass(teacher, h, taking: &state, kernels, progress: progress)
        var pairs: [(input: Matrix<Element>, output: Matrix<Element>)] = []
        while try pass.next() {
            let input = pass.mixerInput()
            let output = pass.applyMixer(input)
            try teacher.check(output, layer: pass.number, kernels)
            if layers.contains(pass.number) { pairs.append((input, output)) }
            guard pass.number < layers.last ?? 0 else { break }
            pass.add(pass.layer.mixerOutput(output, kernels))
            pass.add(pass.feedForwardBranch())
        }
        return pairs
    }
}

/// A distance between the output s of a student layer and the output t of the teacher's layer.
public enum AlignmentLoss: String, Sendable, CaseIterable {
    /// |t - s| / |t|, computed over all tokens at once.
    case relativeL2 = "relative-l2"
    /// |t - s| / sqrt(C), computed for each token and averaged over tokens (RADLADS).
    case l2Norm = "l2-norm"
    /// The mean squared error, rescaled to the norm of the teacher's output in the last aligned layer (RWKVInside,
    /// train_functions.py).
    case scaledMSE = "scaled-mse"

    /// Computes the figures of a layer, and replaces its output with the gradient of the loss.
    ///
    /// - Parameters:
    ///   - layer: the index of the layer.
    ///   - student: the student's output, [tokens, C], which is replaced with the gradient.
    ///   - teacher: the teacher's output, [tokens, C].
    ///   - lastNorm: the mean norm of the tokens in the teacher's output in the last aligned layer.
    ///   - gradientScale: a factor that scales the gradient.
    ///   - kernels: the kernels to use.
    /// - Returns: the figures of the layer.
    package func figures<Element: Real>(
        ofLayer layer: Int, inPlace student: Matrix<Element>, _ teacher: Matrix<Element>, lastNorm: Double,
        gradientScale: Double = 1, _ kernels: Kernels<Element>
    ) -> Alignment.LayerFigures {
        let (squares, targetSquares) = kernels.distances(student, to: teacher)
        let (rows, width) = (Double(student.rows), Double(student.columns))
        let (distance, target) = (squares.reduce(0, +), targetSquares.reduce(0, +))
        let own = kernels.sumOfSquares(student)
        let loss: Double
        let factors: [Double]
        switch self {
        case .relativeL2:
            loss = (distance / target).squareRoot()
            factors = squares.map { _ in distance == 0 ? 0 : 1 / (distance * target).squareRoot() }
        case .l2Norm:
            loss = Self.meanNorm(squares) / width.squareRoot()
            factors = squares.map { $0 == 0 ? 0 : 1 / ($0.squareRoot() * rows * width.squareRoot()) }
        case .scaledMSE:
            let scale = lastNorm / Self.meanNorm(targetSquares)
            let factor = 175 / 64 / lastNorm * scale * scale / (rows * width)
            loss = factor * distance
            factors = squares.map { _ in 2 * factor }
        }
        kernels.scaleDifferences(inPlace: student, to: teacher, by: factors.map { $0 * gradientScale })
        return .init(
            layer: layer, loss: loss, meanSquaredError: distance / (rows * width),
            relativeError: (distance / target).squareRoot(),
            cosine: (target + own - distance) / (2 * (target * own).squareRoot()), scale: (target / own).squareRoot())
    }

    /// Returns the mean token norm, given the squared norm of each token.
    static func meanNorm(_ squares: [Double]) -> Double {
        squares.reduce(0) { $0 + $1.squareRoot() } / Double(max(1, squares.count))
    }
}
