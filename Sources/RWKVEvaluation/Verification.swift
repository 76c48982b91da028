public import Bytes
import CheckpointFiles
public import ModelFamilies
public import RWKVInference
import RWKVLayers
public import RWKVNumerics
public import TokenFiles

/// The reference that a candidate is compared with: a model or recorded logits.
public enum VerificationReference: Sendable {
    case model(Model<Float>)
    case recorded(RecordedLogits)

    /// The path of the reference's file or directory.
    public var path: String {
        switch self {
        case .model(let model): model.checkpoint.path
        case .recorded(let logits): logits.path
        }
    }
}

/// A check that a candidate computes the same logits as a reference, up to rounding errors.
///
/// If the two differ, it finds the first block that diverges.
///
///     let verification = try Verification(of: candidate, against: .model(reference), on: tokens, kernels)
///     if verification.verdict == .differs { print(verification.firstDivergence) }
public struct Verification: Sendable {
    /// The verdict of a verification.
    public enum Verdict: String, Sendable {
        case match
        case differs
        /// The errors are only reported and do not affect the verdict, because the models are expected to differ.
        case report
    }

    /// A block of a model whose output is compared.
    public enum Block: String, Sendable {
        case embedding
        case mixer
        case mlp
        case head
    }

    /// The agreement of a layer of the candidate with the same layer of the reference.
    public struct LayerAgreement: Sendable {
        /// The kinds of the two layers.
        public let kinds: (reference: LayerKind, candidate: LayerKind)
        /// The relative error of the residual stream after the layer, when each model runs on its own residual stream.
        public let relativeError: Double
        /// The cosine similarity of the two residual streams after the layer; nil if either stream is zero.
        public let cosine: Double?
        /// The relative error of the mixer's output, when both mixers receive the reference's residual stream.
        public let mixerError: Double
        /// The relative error of the feed-forward block's output, when both blocks receive the reference's residual
        /// stream.
        public let mlpError: Double

        /// The larger of the mixer's and the feed-forward block's errors.
        public var blockError: Double { max(mixerError, mlpError) }
    }

    /// The agreement, block by block, of two models that have the same number of layers and the same width.
    public struct BlockAgreement: Sendable {
        /// The agreement of each layer, in order.
        public let layers: [LayerAgreement]
        /// The relative error of the residual stream before the first layer.
        public let embeddingError: Double
        /// The relative error of the logits, when both heads receive the reference's residual stream.
        public let headError: Double
    }

    /// The first block whose output diverges when it receives the same input as the reference's block.
    public struct Divergence: Sendable, Hashable {
        /// The index of the layer; nil for the embedding and the head.
        public let layer: Int?
        /// The block that diverges.
        public let block: Block
        /// The relative error of the block's output.
        public let error: Double
    }

    /// A constant in the equations that differs between the candidate and the reference.
    public struct ConstantDifference: Sendable, Hashable {
        /// The name of the constant in reports.
        public let name: String
        /// The value in the reference, as text.
        public let reference: String
        /// The value in the candidate, as text.
        public let candidate: String
    }

    /// The model or recorded logits that the candidate was compared with.
    public let reference: VerificationReference
    /// The model that was verified.
    public let candidate: Model<Float>
    /// The tokens that the candidate and the reference were run on.
    public let tokens: TokenSequences
    /// The kind of rounding that separates the candidate from the reference.
    public let path: PrecisionPath
    /// The limits on errors.
    public let limits: VerificationLimits
    /// Whether errors and differing constants are only reported; failures and audit problems still affect the verdict.
    public let isReport: Bool
    /// Whether block errors also affect the verdict; true if the caller set the block limit.
    private let judgesBlocks: Bool
    /// The agreement of the logits; nil if the comparison failed because numbers were not finite.
    public let logits: LogitsAgreement?
    /// The agreement of the blocks; nil if the comparison failed, if the reference is recorded logits, or if the models
    /// differ in their number of layers or width.
    public let blocks: BlockAgreement?
    /// The constants that differ between the candidate and the reference.
    public let constants: [ConstantDifference]
    /// The audit of the candidate against its conversion manifest; nil if there is no manifest.
    public let audit: ConversionAudit?
    /// The error that prevented the comparison of logits; nil if they were compared.
    public let failure: CheckpointError?

    /// Runs the candidate and compares it with the reference.
    ///
    /// - Parameters:
    ///   - candidate: the model to verify.
    ///   - reference: the model or recorded logits to compare the candidate with.
    ///   - tokens: the tokens to run both on; for recorded logits, these must be the recorded tokens.
    ///   - overrides: the limits that replace the defaults, keyed by name.
    ///   - isReport: whether errors and differing constants are only reported, without affecting the verdict.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that receives the number of tokens processed, and that the caller can use to cancel the
    ///     work.
    /// - Throws: `CheckpointError`: `malformed` if a token is outside the vocabulary or a recorded logit is not
    ///   finite, `unsupported` if the vocabulary sizes differ or the logits were recorded for other tokens, or the
    ///   errors of reading and running a model, except `notFinite`.
    public init(
        of candidate: Model<Float>, against reference: VerificationReference, on tokens: TokenSequences,
        limits overrides: [String: Double] = [:], isReport: Bool = false, _ kernels: Kernels<Float>,
        progress: WorkProgress = WorkProgress()
    ) throws {
        try tokens.check(vocabulary: candidate.vocabulary)
        if case .recorded(let logits) = reference, logits.tokens.sequences != tokens.sequences {
            throw CheckpointError(
                .unsupported, path: logits.path,
                "the logits were recorded for tokens other than those of \(tokens.path)")
        }
        self.candidate = candidate
        self.reference = reference
        self.tokens = tokens
        self.isReport = isReport
        path = reference.path(to: candidate)
        var limits = VerificationLimits(path, layerCount: candidate.layers.count)
        for (name, value) in overrides { limits[name] = value }
        self.limits = limits
        judgesBlocks = overrides["block"] != nil
        let length = tokens.sequences.map(\.count).max() ?? 0
        constants = reference.constants(beside: candidate, length: length)
        audit = try ConversionAudit(
            of: candidate.checkpoint, reference: reference, threads: kernels.threads,
            progress: WorkProgress(partOf: progress))
        var comparison = ModelComparison(candidate, tokens, kernels, progress)
        var failure: CheckpointError?
        do {
            switch reference {
            case .model(let model): try comparison.compare(with: model)
            case .recorded(let logits): try comparison.compare(with: logits)
            }
        } catch let error as CheckpointError where error.category == .notFinite {
            failure = error
        }
        self.failure = failure
        var agreement = failure == nil ? comparison.logits.agreement : nil
        agreement?.greedyAgreement = comparison.greedyAgreement
        logits = agreement
        blocks = failure == nil ? comparison.blocks : nil
    }

    /// The names of the limits that are exceeded; empty if the logits could not be compared.
    public var exceeded: [String] {
        guard let logits else { return [] }
        var exceeded: [String] = []
        // The comparisons are false for NaN, so NaN exceeds every limit.
        func hold(_ name: String, _ isWithin: Bool) { if !isWithin { exceeded.append(name) } }
        if let most = limits.maximumDifference { hold("max_abs", logits.maximumDifference <= most) }
        hold("nmse", logits.nmse <= limits.nmse)
        hold("kl_mean", logits.kl.mean <= limits.meanKL)
        hold("kl_max", logits.kl.maximum <= limits.maximumKL)
        if let top1 = logits.top1 { hold("top1", top1 >= limits.top1) }
        if judgesBlocks, let blocks { hold("block", divergence(of: blocks) == nil) }
        return exceeded
    }

    /// The verdict of the verification.
    public var verdict: Verdict {
        if failure != nil || audit?.problems.isEmpty == false { return .differs }
        if isReport { return .report }
        return exceeded.isEmpty && constants.isEmpty ? .match : .differs
    }

    /// The first block that diverges; nil if the models match, if the blocks were not compared, or if no block exceeds
    /// its limit.
    public var firstDivergence: Divergence? {
        verdict == .match ? nil : blocks.flatMap { divergence(of: $0) }
    }

    private func divergence(of blocks: BlockAgreement) -> Divergence? {
        var errors = [(layer: Int?, block: Block, error: Double)]()
        errors.append((nil, .embedding, blocks.embeddingError))
        for (number, layer) in blocks.layers.enumerated() {
            errors.append((number, .mixer, layer.mixerError))
            errors.append((number, .mlp, layer.mlpError))
        }
        errors.append((nil, .head, blocks.headError))
        // The comparison is negated so that NaN exceeds the limit.
        return errors.first { !($0.error <= limits.block) }.map {
            Divergence(layer: $0.layer, block: $0.block, error: $0.error)
        }
    }
}

extension VerificationReference {
    /// Returns the kind of rounding that separates a candidate from this reference.
    fileprivate func path(to candidate: Model<Float>) -> PrecisionPath {
        switch self {
        case .model(let model):
            let own = model.description.bindings
            // Weights that only one of the two models has are ignored.
            return candidate.description.bindings.reduce(.fp32) { path, entry in
                guard let binding = own[entry.key] ?? own[entry.key.counterpart] else { return path }
                let (a, b) = (
                    model.checkpoint.tensors[binding.position], candidate.checkpoint.tensors[entry.value.position]
                )
                return max(path, .from(a.dtype, to: b.dtype))
            }
        case .recorded(let logits):
            switch logits.dtype {
            case .bf16: return .bf16Compute
            case .f16: return .fp16Weights
            default:
                // If the file does not record the dtype of the weights, they are assumed to be F32.
                return .from(logits.weights ?? .f32, to: candidate.mostCommonDType ?? .f32)
            }
        }
    }

    /// Returns the constants that differ between this reference and a candidate for sequences of up to `length` tokens.
    fileprivate func constants(beside model: Model<Float>, length: Int) -> [Verification.ConstantDifference] {
        guard case .model(let own) = self else { return [] }
        let (reference, candidate) = (own.description, model.description)
        var differences: [Verification.ConstantDifference] = []
        func compare(_ name: String, _ value: (ModelDescription) -> (text: String, value: AnyHashable)) {
            let (a, b) = (value(reference), value(candidate))
            if a.value != b.value { differences.append(.init(name: name, reference: a.text, candidate: b.text)) }
        }
        /// Compares the values layer by layer, and adds a difference for the first layer in which they differ.
        func compareLayers(
            _ name: String, _ value: (ModelDescription, LayerSpec) -> (text: String, value: AnyHashable)?
        ) {
            for (a, b) in zip(reference.layers, candidate.layers) {
                guard let a = value(reference, a), let b = value(candidate, b), a.value != b.value else { continue }
                return differences.append(.init(name: name, reference: a.text, candidate: b.text))
            }
        }
        func rotation(_ model: ModelDescription, _ layer: LayerSpec) -> (text: String, value: AnyHashable) {
            guard let rotation = layer.rotation, let size = model.dimensions[.headSize] else { return ("none", 0) }
            return ("theta \(rotation.text)", RotaryFrequencies(rotation, headSize: size, length: length))
        }
        func number(_ value: Double?) -> (text: String, value: AnyHashable) { (value.map { "\($0)" } ?? "none", value) }
        compare("epsilon") { ("\($0.epsilon ?? 0)", $0.epsilon) }
        // The scale is rounded to the dtype of the stored embedding, so it can differ between models of the same
        // architecture.
        let scales = (number(own.embeddingScale), number(model.embeddingScale))
        if scales.0.value != scales.1.value {
            differences.append(
                .init(name: "embedding scale", reference: scales.0.text, candidate: scales.1.text))
        }
        compare("logit softcap") { number($0.logitSoftcap) }
        compareLayers("activation") { _, layer in
            guard case .gated(let activation) = layer.feedForward else { return nil }
            return (activation.rawValue, activation)
        }
        compareLayers("rotation of attention") { $1.kind.hasCache ? rotation($0, $1) : nil }
        compareLayers("attention window") { _, layer in
            // A window that covers the longest sequence has no effect.
            layer.attention.map { number($0.window.flatMap { $0 < length ? Double($0) : nil }) }
        }
        compareLayers("query scale") { model, layer in
            layer.attention.map {
                number($0.scale ?? model.dimensions[.headSize].map { 1 / Double($0).squareRoot() })
            }
        }
        compareLayers("score softcap") { _, layer in layer.attention.map { number($0.softcap) } }
        compareLayers("scale of the key") { _, layer in layer.timeMix.map { ($0.keyScale, $0.keyScale) } }
        compareLayers("gate") { _, layer in layer.timeMix.map { ($0.gate.rawValue, $0.gate) } }
        compareLayers("rotation of time mixing") { $1.kind.carriesState ? rotation($0, $1) : nil }
        guard reference.kinds.contains(where: \.carriesState), candidate.kinds.contains(where: \.carriesState) else {
            return differences
        }
        // If layer 0 is time mixing in both models, it provides the first values with either setting.
        if reference.kinds.first?.carriesState != true || candidate.kinds.first?.carriesState != true {
            compare("first values") { ($0.firstValues.rawValue, $0.firstValues) }
        }
        if reference.architecture.timeMix?.hasGroupNorm == true, !own.makesUpForEpsilon(of: model) {
            compare("epsilon of group norm") { ("\($0.groupNormEpsilon ?? 0)", $0.groupNormEpsilon) }
        }
        return differences
    }
}

extension Model<Float> {
    /// Returns whether the receptances of RWKV-6 make up for another epsilon of the GroupNorm on the heads' output.
    ///
    /// The output is proportional to the receptance, so its norm is the same with c times the receptance and c^2 times
    /// the epsilon.
    fileprivate func makesUpForEpsilon(of other: Model<Float>) -> Bool {
        guard let epsilons = [description, other.description].map(\.groupNormEpsilon) as? [Double],
            let sizes = [self, other].map(\.receptanceSize) as? [Double]
        else { return false }
        return (epsilons[1] / epsilons[0] / (sizes[1] / sizes[0]) - 1).magnitude < 0.01
    }

    /// The sum of the squares of the first RWKV-6 layer's receptance weight; nil if there is no such layer.
    private var receptanceSize: Double? {
        for case .wkv6(let mixer) in layers.map(\.mixer) {
            return (mixer.receptance.weight.numbers() as [Float]).reduce(0) { $0 + Double($1) * Double($1) }
        }
        return nil
    }
}

extension TensorPlace {
    fileprivate var counterpart: TensorPlace { TensorPlace(role: role.counterpart ?? role, layer: layer) }
}
