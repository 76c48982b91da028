public import Bytes
public import CheckpointFiles
import CheckpointJSON
import Glibc
public import ModelFamilies
public import RWKVInference
public import RWKVNumerics
public import TokenFiles

/// A distillation of a teacher into a student, performed one optimiser step at a time.
///
///     var distillation = try Distillation(teacher, student, description, tokens, settings)
///     while !distillation.isDone { print(try distillation.next(kernels).loss) }
///
/// Copies of a distillation share the student's weights, so call ``next(_:progress:)`` on only one of them. Use
/// ``DistillationRun`` to run all steps and to evaluate, save and resume.
public struct Distillation<Element: Real> {
    /// The number of consecutive steps with non-finite gradients after which training fails.
    private static var maximumNonFiniteSteps: Int { 8 }

    /// The settings of the distillation.
    public let settings: DistillationSettings
    /// The student with its current weights.
    public private(set) var student: TrainedModel<Element>
    /// The number of completed steps.
    public private(set) var step = 0
    private(set) var optimiser: AdamW<Element>
    /// The model to learn from.
    package let teacher: Model<Element>
    let tokens: TokenSequences
    private var order: TrainingOrder
    private var failures = 0

    /// Creates a distillation at step 0.
    ///
    /// - Parameters:
    ///   - teacher: the model that the student learns from.
    ///   - checkpoint: the student's checkpoint.
    ///   - description: the description of the student.
    ///   - tokens: the training sequences.
    ///   - settings: the settings of the distillation.
    /// - Throws: `CheckpointError`: `unsupported` if a setting is out of range, or if the student does not match the
    ///   teacher or cannot be trained with these settings; `malformed` if no sequence is long enough or a token is
    ///   outside the vocabulary; or the errors of loading a model.
    public init(
        _ teacher: Model<Element>, _ checkpoint: Checkpoint, _ description: ModelDescription, _ tokens: TokenSequences,
        _ settings: DistillationSettings
    ) throws(CheckpointError) {
        try settings.check(path: checkpoint.path)
        try description.checkTraining(by: teacher.description, path: checkpoint.path)
        // The run copies the student's config.json, which must name what was trained.
        if let configuration = try? ModelConfiguration(beside: checkpoint),
            configuration.namesStudent, !description.isNamed(by: configuration)
        {
            throw CheckpointError(
                .unsupported, path: configuration.path, "config.json names another variant than the one to train",
                expected: description.variant, found: configuration.name?.text,
                advice: "set rwkv_architecture in it to the variant")
        }
        try tokens.check(vocabulary: teacher.vocabulary)
        let isAlignment = if case .alignment = settings.stage { true } else { false }
        let trained = try settings.rules.trained(in: checkpoint, description, within: isAlignment ? .rwkv : nil)
        self.settings = settings
        (self.teacher, self.tokens) = (teacher, tokens)
        order = try TrainingOrder(tokens, length: settings.context, seed: settings.seed)
        // If only one of the layouts transposes a matrix, equal bytes represent different matrices.
        let isAlike = teacher.description.layout?.name == description.layout?.name
        student = try TrainedModel(
            checkpoint, description, training: trained, by: settings.adapters, sharing: isAlike ? teacher : nil)
        optimiser = AdamW(of: student.parameters)
        optimiser.clip = settings.clip
    }

    /// Whether all steps have been completed.
    public var isDone: Bool { step >= settings.steps }

    /// Checks that the estimated memory for the activations of a step is within a limit.
    ///
    /// - Parameter limit: the memory limit in bytes.
    /// - Throws: `CheckpointError` of category `unsupported` if the estimate exceeds the limit.
    public func checkMemory(atMost limit: Int) throws(CheckpointError) {
        let sizes = student.model.description.dimensions
        let width = sizes[.width] ?? 0
        let (heads, size) = (sizes[.heads] ?? 0, sizes[.headSize] ?? 0)
        // Each mixer keeps its input, the activations between its stages, and its recurrent state after every 16
        // tokens. The gradients of activations are kept for only one mixer at a time.
        let attention = heads.multiplied(clamped: size)
        let mixer = attention.multiplied(clamped: 28 + size / 16).adding(clamped: width)
        let layers = student.model.layers.count
        let ofLayers =
            switch settings.stage {
            case .alignment: width.multiplied(clamped: 2 * layers).adding(clamped: mixer)
            case .divergence:
                (sizes[.feedForwardWidth] ?? 0).adding(clamped: width).multiplied(clamped: 3).adding(clamped: mixer)
                    .multiplied(clamped: layers)
            }
        let numbers = ofLayers.adding(clamped: attention.multiplied(clamped: 24))
        let bytes = [settings.batch, settings.context, MemoryLayout<Element>.size].reduce(numbers) {
            $0.multiplied(clamped: $1)
        }
        guard bytes > limit else { return }
        throw CheckpointError(
            .unsupported, path: student.model.checkpoint.path,
            "a step of \(settings.batch) x \(settings.context) tokens exceeds the memory limit",
            expected: "at most \(limit) bytes", found: "about \(bytes) bytes",
            advice: "use fewer or shorter sequences, and make up for them with --accumulate")
    }

    /// Performs one optimiser step, accumulating gradients over `settings.accumulate` batches.
    ///
    /// - Parameters:
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the step. A cancelled distillation can be saved in its
    ///     state before the step, but cannot be continued.
    /// - Returns: the figures of the step.
    /// - Throws: `CheckpointError`: `notFinite` if the gradients of too many consecutive steps are not finite or a
    ///   weight becomes non-finite, `cancelled`, or any error from running a model.
    public mutating func next(
        _ kernels: Kernels<Element>, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> DistillationStep {
        var loss = 0.0
        var layers: [[Alignment.LayerFigures]] = []
        for _ in 0..<settings.accumulate {
            let tokens = order.next(settings.batch)
            switch settings.stage {
            case .alignment(let alignment):
                let figures = try alignment(
                    student, teacher, tokens, sequences: settings.batch, kernels, progress: progress)
                loss += figures.reduce(0) { $0 + $1.loss } / Double(max(1, figures.count))
                layers.append(figures)
            case .divergence(var divergence, let temperatures):
                divergence.temperature =
                    temperatures[min(step * temperatures.count / settings.steps, temperatures.count - 1)]
                loss += try divergence(
                    student, teacher, tokens, sequences: settings.batch, kernels, progress: progress)
            }
        }
        student.adaptersBackward(kernels)
        let rate = settings.learningRate.rate(at: step, of: settings.steps)
        let norm = optimiser.step(student.parameters, averaging: settings.accumulate, rate: rate, kernels)
        failures = norm.isFinite ? 0 : failures + 1
        let limit = min(Self.maximumNonFiniteSteps, settings.steps)
        guard failures < limit else {
            throw CheckpointError(
                .notFinite, path: student.model.checkpoint.path,
                "the gradients of \(limit) consecutive steps were not finite",
                advice: "if the student's weights are finite (inspect --stats), try a lower learning rate")
        }
        if let broken = student.parameters.first(where: { !kernels.areFinite($0.values) }) {
            throw CheckpointError(
                .notFinite, path: student.model.checkpoint.path, "a weight became NaN or infinite in training",
                tensor: broken.name, advice: "try a lower learning rate")
        }
        try teacher.checkFiles()
        try student.model.checkFiles()
        try student.update(kernels)
        step += 1
        return DistillationStep(
            number: step, loss: loss / Double(settings.accumulate), layers: Self.means(layers), rate: rate,
            gradientNorm: norm)
    }

    /// Advances to the state after `done` steps, once the weights and moments have been restored.
    ///
    /// Updates the student from its restored weights, and skips the training windows of the completed steps. `updates`
    /// is the number of completed steps that changed the weights.
    mutating func skip(to done: Int, updates: Int, _ kernels: Kernels<Element>) throws(CheckpointError) {
        try student.update(kernels)
        order.skip((done - step) * settings.batch * settings.accumulate)
        step = done
        optimiser.steps = updates
    }

    private static func means(_ parts: [[Alignment.LayerFigures]]) -> [Alignment.LayerFigures] {
        guard parts.count > 1, let first = parts.first else { return parts.first ?? [] }
        return first.indices.map { place in
            func mean(_ figure: (Alignment.LayerFigures) -> Double) -> Double {
                parts.reduce(0) { $0 + figure($1[place]) } / Double(parts.count)
            }
            return .init(
                layer: first[place].layer, loss: mean(\.loss), meanSquaredError: mean(\.meanSquaredError),
                relativeError: mean(\.relativeError), cosine: mean(\.cosine), scale: mean(\.scale))
        }
    }
}

/// The figures of an optimiser step.
public struct DistillationStep: Sendable, Hashable {
    /// The number of the step, starting at 1.
    public internal(set) var number: Int
    /// The loss before the update, averaged over batches.
    public internal(set) var loss: Double
    /// The figures of each time-mixing layer in stage 1; empty in stage 2.
    public internal(set) var layers: [Alignment.LayerFigures]
    /// The learning rate of the step.
    public internal(set) var rate: Double
    /// The global gradient norm before clipping; if it is not finite, the step did not change any weights.
    public internal(set) var gradientNorm: Double
}

/// The machine's physical memory in bytes.
package func physicalMemory() -> Int { sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) }

extension ModelDescription {
    /// Checks that this model can be trained and matches its teacher; throws `unsupported` otherwise.
    fileprivate func checkTraining(by teacher: ModelDescription, path: String) throws(CheckpointError) {
        func no(
            _ reason: String, expected: String? = nil, found: String? = nil, advice: String? = nil
        ) -> CheckpointError {
            CheckpointError(.unsupported, path: path, reason, expected: expected, found: found, advice: advice)
        }
        guard layers.contains(where: \.kind.carriesState) else {
            throw no(
                "the student has no RWKV layer",
                advice: teacher.layers.contains(where: \.kind.carriesState)
                    ? "the teacher has one: give the teacher first, and the student second" : nil)
        }
        // The sequences of a batch are concatenated, so channel mixing would mix in the last token of the previous one.
        guard !teacher.architecture.body.feedForward.shiftsTokens else {
            throw no(
                "distillation is not implemented for this kind of teacher",
                found: teacher.variant ?? teacher.architecture.family)
        }
        guard architecture.hasTeachersBody else {
            throw no(
                "training is not implemented for this kind of student",
                expected: "one of \(ArchitectureRegistry.targetNames.joined(separator: ", "))",
                found: variant ?? architecture.family)
        }
        for dimension in [ModelDimension.vocabulary, .width]
        where dimensions[dimension] != teacher.dimensions[dimension] {
            throw no(
                "the student and its teacher differ in \(dimension.title)",
                expected: teacher.dimensions[dimension].map(String.init), found: dimensions[dimension].map(String.init))
        }
        guard layers.count == teacher.layers.count else {
            throw no(
                "the student and its teacher differ in the number of layers", expected: "\(teacher.layers.count)",
                found: "\(layers.count)")
        }
    }
}
