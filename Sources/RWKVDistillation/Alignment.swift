public import CheckpointFiles
import ModelFamilies
public import RWKVInference
import RWKVLayers
public import RWKVNumerics

/// Stage 1: each time mixing of a student learns to give what its teacher's attention gives for the same input.
///
/// Layers see the teacher's residual stream, so that none learns from another's errors, and all learn in one pass.
public struct Alignment: Sendable, Hashable {
    /// How far apart outputs are.
    public var loss = AlignmentLoss.relativeL2
    /// Whether gradients pass through the first keys and values.
    public var passesFirstValues = false

    /// The relative error, without gradients through first values.
    public init() {}

    /// How one layer does.
    public struct LayerFigures: Sendable, Hashable {
        /// Its number.
        public let layer: Int
        /// Its loss.
        public let loss: Double
        /// The mean squared difference.
        public let meanSquaredError: Double
        /// |t - s| / |t|.
        public let relativeError: Double
        /// Of t and s.
        public let cosine: Double
        /// |t| / |s|.
        public let scale: Double
    }

    /// Adds the gradients of some sequences, of their mean loss over layers.
    ///
    /// - Parameters:
    ///   - student: whose weights change.
    ///   - teacher: of the same sizes.
    ///   - tokens: of sequences of the same length, one behind the other.
    ///   - sequences: how many there are.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    /// - Returns: how each time mixing does, front to back.
    /// - Throws: ``CheckpointError``, as models do, or of category `cancelled`.
    public func callAsFunction<Element: Real>(
        _ student: TrainedModel<Element>, _ teacher: Model<Element>, _ tokens: [Int], sequences: Int,
        _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> [LayerFigures] {
        let aligned = student.model.description.layers.indices.filter {
            student.model.description.layers[$0].kind.carriesState
        }
        // Attention in the first layer may give what time mixing mixes in.
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
            _ = student.model.layers[0].mix(
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
            // The loss of all is the mean over layers.
            figures.append(
                loss.figures(
                    ofLayer: layer, inPlace: output, pair.output, lastNorm: lastNorm,
                    gradientScale: 1 / Double(aligned.count), kernels))
            if passesFirstValues, !givesFirst, kept == nil {
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

    /// What the teacher's layers see and give.
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
            let output = pass.mix(input)
            try teacher.check(output, layer: pass.number, kernels)
            if layers.contains(pass.number) { pairs.append((input, output)) }
            guard pass.number < layers.last ?? 0 else { break }
            pass.add(pass.layer.mixerOutput(output, kernels))
            pass.add(pass.fed())
        }
        return pairs
    }
}

/// How far what a layer gives is from what its teacher's does.
public enum AlignmentLoss: String, Sendable, CaseIterable {
    /// |t - s| / |t|, over all tokens at once.
    case relativeL2 = "relative-l2"
    /// |t - s| / sqrt(C), averaged over tokens (RADLADS).
    case l2Norm = "l2-norm"
    /// The mean squared difference, in the scale of the last layer (RWKVInside, train_functions.py).
    case scaledMSE = "scaled-mse"

    /// How one layer does; the gradient of its loss takes the place of what it gave.
    ///
    /// - Parameters:
    ///   - layer: its number.
    ///   - student: [tokens, C]; becomes the gradient.
    ///   - teacher: [tokens, C].
    ///   - lastNorm: the mean norm of a token in what the last layer's teacher gives.
    ///   - gradientScale: what the gradient is multiplied with.
    ///   - kernels: what it is computed with.
    /// - Returns: its figures.
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

    /// The mean norm of a token.
    static func meanNorm(_ squares: [Double]) -> Double {
        squares.reduce(0) { $0 + $1.squareRoot() } / Double(max(1, squares.count))
    }
}
