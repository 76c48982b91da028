public import CheckpointFiles
public import ModelFamilies
public import RWKVInference
import RWKVLayers
public import RWKVNumerics

/// What a candidate is held against.
public enum VerificationReference: Sendable {
    case model(Model<Float>)
    case recorded(RecordedLogits)

    /// The file or directory.
    public var path: String {
        switch self {
        case .model(let model): model.checkpoint.path
        case .recorded(let logits): logits.path
        }
    }
}

/// Whether a model is what another is: to rounding, or where it stops being so.
///
///     let verification = try Verification(of: candidate, against: .model(reference), on: tokens, kernels)
///     if verification.verdict == .differs { print(verification.firstDivergence) }
public struct Verification: Sendable {
    /// What was found.
    public enum Verdict: String, Sendable {
        case match
        case differs
        /// Nothing was judged: they are meant to differ.
        case report
    }

    /// A part of a model that computes.
    public enum Block: String, Sendable {
        case embedding
        case mixer
        case mlp
        case head
    }

    /// How a layer of the candidate agrees with the same of the reference.
    public struct LayerAgreement: Sendable {
        /// The kinds of the two.
        public let kinds: (reference: LayerKind, candidate: LayerKind)
        /// Of the residual stream behind it, each model on its own input.
        public let relativeError: Double
        /// Of the residual stream behind it.
        public let cosine: Double?
        /// Of what the mixer gives on the reference's input.
        public let mixerError: Double
        /// Of what the feed-forward part gives on the reference's input.
        public let mlpError: Double

        /// The larger of the two blocks' errors.
        public var blockError: Double { max(mixerError, mlpError) }
    }

    /// How the blocks of two models agree that have the same layers.
    public struct BlockAgreement: Sendable {
        /// Front to back.
        public let layers: [LayerAgreement]
        /// The relative error of embeddings.
        public let embeddingError: Double
        /// The relative error of logits on the reference's residual stream.
        public let headError: Double
    }

    /// The first block that gives something else than the reference's on the reference's own input.
    public struct Divergence: Sendable, Hashable {
        /// The number of its layer; nil for embedding and head.
        public let layer: Int?
        /// Which it is.
        public let block: Block
        /// The relative error of what it gives.
        public let error: Double
    }

    /// A constant of the equations that is not the same in both.
    public struct ConstantDifference: Sendable, Hashable {
        /// What it is.
        public let name: String
        /// The reference's.
        public let reference: String
        /// The candidate's.
        public let candidate: String
    }

    /// What the candidate was held against.
    public let reference: VerificationReference
    /// What was verified.
    public let candidate: Model<Float>
    /// What both were run on.
    public let tokens: TokenSequences
    /// What was rounded between them.
    public let path: PrecisionPath
    /// What they were held to.
    public let limits: VerificationLimits
    /// Whether nothing is judged but what is broken.
    public let isReport: Bool
    /// Whether blocks are judged too.
    private let judgesBlocks: Bool
    /// Of their logits; nil where one of them has none that are finite.
    public let logits: LogitsAgreement?
    /// Block by block; nil where they have not as many layers of the same width.
    public let blocks: BlockAgreement?
    /// Constants that differ.
    public let constants: [ConstantDifference]
    /// What the candidate's manifest says; nil where there is none.
    public let audit: ConversionAudit?
    /// Why there are no logits.
    public let failure: CheckpointError?

    /// Runs both, and compares them.
    ///
    /// - Parameters:
    ///   - candidate: what is verified.
    ///   - reference: what it is held against.
    ///   - tokens: what both are run on; of recorded logits, theirs.
    ///   - overrides: limits by their names.
    ///   - isReport: whether nothing is to be judged.
    ///   - kernels: what is computed with.
    ///   - progress: told of tokens; can stop the work.
    /// - Throws: ``CheckpointError``: `malformed` where a token is not in the vocabulary, `unsupported` where recorded logits are of
    ///   other tokens; where one of them cannot be read or run, but for numbers that are not finite.
    public init(
        of candidate: Model<Float>, against reference: VerificationReference, on tokens: TokenSequences,
        limits overrides: [String: Double] = [:], isReport: Bool = false, _ kernels: Kernels<Float>,
        progress: WorkProgress = WorkProgress()
    ) throws {
        try tokens.check(vocabulary: candidate.vocabulary)
        if case .recorded(let logits) = reference, logits.tokens.sequences != tokens.sequences {
            throw CheckpointError(
                .unsupported, path: logits.path, "its logits are of other tokens than those of \(tokens.path)")
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

    /// The names of limits that are exceeded.
    public var exceeded: [String] {
        guard let logits else { return [] }
        var exceeded: [String] = []
        // What is not a number exceeds everything.
        func hold(_ name: String, _ isWithin: Bool) { if !isWithin { exceeded.append(name) } }
        if let most = limits.maximumDifference { hold("max_abs", logits.maximumDifference <= most) }
        hold("nmse", logits.nmse <= limits.nmse)
        hold("kl_mean", logits.kl.mean <= limits.meanKL)
        hold("kl_max", logits.kl.maximum <= limits.maximumKL)
        if let top1 = logits.top1 { hold("top1", top1 >= limits.top1) }
        if judgesBlocks, let blocks { hold("block", divergence(of: blocks) == nil) }
        return exceeded
    }

    /// What was found.
    public var verdict: Verdict {
        if failure != nil || audit?.problems.isEmpty == false { return .differs }
        if isReport { return .report }
        return exceeded.isEmpty && constants.isEmpty ? .match : .differs
    }

    /// The first block that diverges; nil where they match, or no block does by itself.
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
        // What is not a number exceeds everything.
        return errors.first { !($0.error <= limits.block) }.map {
            Divergence(layer: $0.layer, block: $0.block, error: $0.error)
        }
    }
}

extension VerificationReference {
    /// What was rounded on the way from here to a candidate.
    fileprivate func path(to candidate: Model<Float>) -> PrecisionPath {
        switch self {
        case .model(let model):
            let own = model.description.bindings
            // Weights that only one of them has were not rounded on the way.
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
                // Where the file does not say, weights may have been those of F32.
                return .from(logits.weights ?? .f32, to: candidate.mostCommonDType ?? .f32)
            }
        }
    }

    /// Constants that differ between this and a candidate, where sequences have such a length.
    fileprivate func constants(beside model: Model<Float>, length: Int) -> [Verification.ConstantDifference] {
        guard case .model(let own) = self else { return [] }
        let (reference, candidate) = (own.description, model.description)
        var differences: [Verification.ConstantDifference] = []
        func compare(_ name: String, _ value: (ModelDescription) -> (text: String, value: AnyHashable)) {
            let (a, b) = (value(reference), value(candidate))
            if a.value != b.value { differences.append(.init(name: name, reference: a.text, candidate: b.text)) }
        }
        /// Compares the first layers that differ.
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
        // It is rounded to the type that the embedding is stored in.
        let scales = (number(own.embeddingScale), number(model.embeddingScale))
        if scales.0.value != scales.1.value {
            differences.append(
                .init(name: "scale of embedding", reference: scales.0.text, candidate: scales.1.text))
        }
        compare("cap on logits") { number($0.logitSoftcap) }
        compareLayers("activation") { _, layer in
            guard case .gated(let activation) = layer.feedForward else { return nil }
            return (activation.rawValue, activation)
        }
        compareLayers("rotation of attention") { $1.kind.hasCache ? rotation($0, $1) : nil }
        compareLayers("window of attention") { _, layer in
            // A window that holds the whole sequence changes nothing.
            layer.attention.map { number($0.window.flatMap { $0 < length ? Double($0) : nil }) }
        }
        compareLayers("scale of attention") { model, layer in
            layer.attention.map {
                number($0.scale ?? model.dimensions[.headSize].map { 1 / Double($0).squareRoot() })
            }
        }
        compareLayers("cap on scores") { _, layer in layer.attention.map { number($0.softcap) } }
        compareLayers("rotation of time mixing") { $1.kind.carriesState ? rotation($0, $1) : nil }
        guard reference.kinds.contains(where: \.carriesState), candidate.kinds.contains(where: \.carriesState) else {
            return differences
        }
        // Where layer 0 mixes time, it is the first.
        if reference.kinds.first?.carriesState != true || candidate.kinds.first?.carriesState != true {
            compare("first values") { ($0.firstValues.rawValue, $0.firstValues) }
        }
        if reference.architecture.timeMix?.outputNorm == .groupNorm {
            compare("epsilon of group norm") { ("\($0.groupNormEpsilon ?? 0)", $0.groupNormEpsilon) }
        }
        return differences
    }
}

extension TensorPlace {
    fileprivate var counterpart: TensorPlace { TensorPlace(role: role.counterpart ?? role, layer: layer) }
}
