public import CheckpointFiles
import Glibc
public import ModelFamilies
public import RWKVInference
public import RWKVNumerics

/// A student that learns from its teacher, step by step.
///
///     var distillation = try Distillation(teacher, student, description, tokens, settings)
///     while !distillation.isDone { print(try distillation.next(kernels).loss) }
///
/// Copies share their weights: one alone may go on. ``DistillationRun`` takes it to its end, evaluates it, saves and resumes it.
public struct Distillation<Element: Real> {
    /// Steps in succession whose gradients may be of no use.
    private static var patience: Int { 8 }

    /// What it does.
    public let settings: DistillationSettings
    /// The student.
    public private(set) var student: TrainedModel<Element>
    /// Steps that were done.
    public private(set) var step = 0
    private(set) var optimiser: AdamW<Element>
    let teacher: Model<Element>
    let tokens: TokenSequences
    private var order: TrainingOrder
    private var failures = 0

    /// A run that has done no step.
    ///
    /// - Parameters:
    ///   - teacher: that runs.
    ///   - checkpoint: the student.
    ///   - description: what the student was found to be.
    ///   - tokens: what they are run on.
    ///   - settings: what is done.
    /// - Throws: ``CheckpointError``: `unsupported` where the student is not one of this teacher, or cannot be trained, or not with these
    ///   settings, `malformed` where tokens are too few or not the teacher's; as models do.
    public init(
        _ teacher: Model<Element>, _ checkpoint: Checkpoint, _ description: ModelDescription, _ tokens: TokenSequences,
        _ settings: DistillationSettings
    ) throws(CheckpointError) {
        try settings.check(path: checkpoint.path)
        try description.checkTraining(by: teacher.description, path: checkpoint.path)
        try tokens.check(vocabulary: teacher.vocabulary)
        let isAlignment = if case .alignment = settings.stage { true } else { false }
        let trained = try settings.rules.trained(in: checkpoint, description, within: isAlignment ? .rwkv : nil)
        self.settings = settings
        (self.teacher, self.tokens) = (teacher, tokens)
        order = try TrainingOrder(tokens, length: settings.context, seed: settings.seed)
        // The same bytes mean another matrix where a layout has it transposed.
        let isAlike = teacher.description.layout?.name == description.layout?.name
        student = try TrainedModel(
            checkpoint, description, training: trained, by: settings.adapters, sharing: isAlike ? teacher : nil)
        optimiser = AdamW(of: student.parameters)
        optimiser.clip = settings.clip
    }

    /// Whether all steps were done.
    public var isDone: Bool { step >= settings.steps }

    /// Throws where a step takes more memory than there is, by what its gradients need to know.
    ///
    /// - Parameter limit: in bytes.
    /// - Throws: ``CheckpointError`` of category `unsupported`.
    public func checkMemory(atMost limit: Int) throws(CheckpointError) {
        let sizes = student.model.description.dimensions
        let width = sizes[.width] ?? 0
        let (heads, size) = (sizes[.heads] ?? 0, sizes[.headSize] ?? 0)
        // Of each mixer its input, what is between its stages, and states every 16 tokens; of one at a time the gradients of that.
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
            "a step of \(settings.batch) x \(settings.context) tokens takes more memory than there is",
            expected: "\(limit) bytes at the most", found: "about \(bytes)",
            advice: "fewer sequences or shorter ones take less, and --accumulate makes up for them")
    }

    /// Does a step.
    ///
    /// - Parameters:
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work on the way; the run can then be saved as it was in front of the step, and not go on.
    /// - Returns: what it was.
    /// - Throws: ``CheckpointError``: `notFinite` where many steps in succession were of no use, `cancelled`; as models do.
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
        let patience = min(Self.patience, settings.steps)
        guard failures < patience else {
            throw CheckpointError(
                .notFinite, path: student.model.checkpoint.path,
                "the gradients of \(patience) steps in succession were not finite",
                advice: "a lower learning rate may help, if its weights are finite (inspect --stats)")
        }
        if let broken = student.parameters.first(where: { !kernels.areFinite($0.values) }) {
            throw CheckpointError(
                .notFinite, path: student.model.checkpoint.path, "training took a weight beyond all numbers",
                tensor: broken.name, advice: "a lower learning rate may help")
        }
        try teacher.checkFiles()
        try student.model.checkFiles()
        try student.update(kernels)
        step += 1
        return DistillationStep(
            number: step, loss: loss / Double(settings.accumulate), layers: Self.means(layers), rate: rate,
            gradientNorm: norm)
    }

    /// Passes over steps that were done before, some of which changed weights, and takes in what became of the weights.
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

/// What a step was.
public struct DistillationStep: Sendable, Hashable {
    /// Its number, from 1 on.
    public let number: Int
    /// The loss before it.
    public let loss: Double
    /// How layers did, in an alignment.
    public let layers: [Alignment.LayerFigures]
    /// The learning rate.
    public let rate: Double
    /// Of all gradients, before they were clipped; where it is not finite, no weight changed.
    public let gradientNorm: Double
}

/// How many bytes of memory the machine has.
package func physicalMemory() -> Int { sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) }

extension ModelDescription {
    /// Throws where there are no gradients of this model, or it is of another teacher.
    fileprivate func checkTraining(by teacher: ModelDescription, path: String) throws(CheckpointError) {
        func no(_ reason: String, expected: String? = nil, found: String? = nil) -> CheckpointError {
            CheckpointError(.unsupported, path: path, reason, expected: expected, found: found)
        }
        guard let timeMix = architecture.timeMix, layers.contains(where: \.kind.carriesState) else {
            throw no("the student has no layer of RWKV")
        }
        // What a token sees of the one before would come from another sequence.
        guard !teacher.architecture.mixesNeighbours else {
            throw no("teachers of this kind do not teach", found: teacher.variant ?? teacher.architecture.family)
        }
        guard architecture.hasTeachersBody, !architecture.mixesNeighbours,
            timeMix.tokenShift == .none, timeMix.removalKey == .key, timeMix.keyScale == .oneMinusOmega,
            timeMix.outputNorm == .headScale
        else {
            throw no(
                "students of this kind are not trained", expected: "cxa076, cxa076r, cxa079 or hxa079",
                found: variant)
        }
        for dimension in [Dimension.vocabulary, .width] where dimensions[dimension] != teacher.dimensions[dimension] {
            throw no(
                "the student does not fit its teacher: they differ in \(dimension.title)",
                expected: teacher.dimensions[dimension].map(String.init), found: dimensions[dimension].map(String.init))
        }
        guard layers.count == teacher.layers.count else {
            throw no(
                "the student does not fit its teacher: they differ in layers", expected: "\(teacher.layers.count)",
                found: "\(layers.count)")
        }
    }
}
