public import CheckpointFiles

/// What a user says of a model whose files do not say it.
public struct ModelHints: Sendable, Hashable {
    /// The path of a config.json that is used instead of the one beside the checkpoint.
    public var configuration: String?
    /// The name of the variant, which the tensors must fit.
    public var variant: String?
    /// The path of a config.json that is used where neither ``configuration`` nor the checkpoint's directory has one.
    public var fallbackConfiguration: String?
    /// The name of the variant where neither tensors nor configuration decide.
    public var fallbackVariant: String?

    /// Hints; by default none.
    public init(
        configuration: String? = nil, variant: String? = nil, fallbackConfiguration: String? = nil,
        fallbackVariant: String? = nil
    ) {
        self.configuration = configuration
        self.variant = variant
        self.fallbackConfiguration = fallbackConfiguration
        self.fallbackVariant = fallbackVariant
    }
}

/// A checkpoint, or a config.json alone, and what model it is.
///
/// Sizes and families are told by tensors; constants by a config.json: the one that a hint names, else the one beside the checkpoint,
/// else the fallback that a hint names.
///
///     let teacher = try RecognisedModel(path: "Qwen3-8B", temporaryDirectory: "/tmp")
///     print(try teacher.description.layers)
public struct RecognisedModel: Sendable {
    /// The checkpoint, or the config.json.
    public let path: String
    /// Nil where there is a config.json alone.
    public let checkpoint: Checkpoint?
    /// The config.json that was used; nil where there is none that could be.
    public let configuration: ModelConfiguration?
    /// What the model is; nil where it is of no known family.
    public let recognition: ModelRecognition?
    /// What its user should know, those of the checkpoint first.
    public let warnings: [CheckpointWarning]
    /// Why the config.json beside the checkpoint, which can be read, is not used.
    private let impossible: CheckpointError?

    /// Recognises the model of a checkpoint.
    ///
    /// A config.json beside the checkpoint that cannot be read, or has impossible values, is left aside with a warning.
    ///
    /// - Parameters:
    ///   - checkpoint: its tensors.
    ///   - hints: what the user says of it.
    /// - Throws: ``CheckpointError`` where a config.json that a hint names cannot be used, or the tensors are not of the variant.
    public init(_ checkpoint: Checkpoint, _ hints: ModelHints = ModelHints()) throws(CheckpointError) {
        var warnings = checkpoint.warnings
        var configuration: ModelConfiguration?
        if let path = hints.configuration {
            configuration = try ModelConfiguration(path: path)
        } else {
            do throws(CheckpointError) {
                configuration = try ModelConfiguration(beside: checkpoint)
            } catch { warnings.append(Self.unused(error)) }
        }
        let isOwn = hints.configuration == nil && configuration != nil
        if configuration == nil, let path = hints.fallbackConfiguration {
            configuration = try ModelConfiguration(path: path)
        }
        var recognition: ModelRecognition?
        var impossible: CheckpointError?
        do throws(CheckpointError) {
            recognition = try Self.recognize(checkpoint, configuration, hints)
        } catch {
            guard isOwn, error.path == configuration?.path else { throw error }
            warnings.append(Self.unused(error))
            impossible = error
            configuration = nil
            recognition = try Self.recognize(checkpoint, nil, hints)
        }
        path = checkpoint.path
        self.checkpoint = checkpoint
        self.configuration = configuration
        self.recognition = recognition
        self.warnings = warnings + Self.warnings(of: configuration, recognition)
        self.impossible = impossible
    }

    /// Recognises the model of a checkpoint, or the one that a config.json alone describes.
    ///
    /// - Parameters:
    ///   - path: of either.
    ///   - hints: what the user says of it; where they name a config.json, `path` is a checkpoint.
    ///   - temporaryDirectory: where compressed files are unpacked that cannot be read otherwise.
    /// - Throws: ``CheckpointError``, as ``init(_:_:)`` and where the checkpoint cannot be opened.
    public init(
        path: String, _ hints: ModelHints = ModelHints(), temporaryDirectory: String
    ) throws(CheckpointError) {
        guard hints.configuration == nil, let alone = try ModelConfiguration(alone: path) else {
            self = try RecognisedModel(Checkpoint.open(path, temporaryDirectory: temporaryDirectory), hints)
            return
        }
        self = try RecognisedModel(alone, variant: hints.variant)
    }

    /// Recognises the model that a config.json describes.
    ///
    /// - Parameters:
    ///   - configuration: all that is known.
    ///   - variant: the name of the variant, which must be described.
    /// - Throws: ``CheckpointError`` where it has impossible values.
    public init(_ configuration: ModelConfiguration, variant: String? = nil) throws(CheckpointError) {
        path = configuration.path
        checkpoint = nil
        self.configuration = configuration
        recognition = try ModelRecognition.recognize(nil, configuration: configuration, variant: variant)
        warnings = Self.warnings(of: configuration, recognition)
        impossible = nil
    }

    /// Keys of which nothing is known: equations might depend on them.
    private static func warnings(
        of configuration: ModelConfiguration?, _ recognition: ModelRecognition?
    ) -> [CheckpointWarning] {
        guard case .model(let model)? = recognition, let configuration else { return [] }
        let unknown = configuration.unknownKeys(in: model.architecture)
        guard !unknown.isEmpty else { return [] }
        let names = unknown.prefix(8).joined(separator: ", ") + (unknown.count > 8 ? ", ..." : "")
        return [
            CheckpointWarning(
                path: configuration.path, "has keys that are not known, and may change equations: \(names)")
        ]
    }

    private static func unused(_ error: CheckpointError) -> CheckpointWarning {
        CheckpointWarning(path: error.path, "is not used: \(error.reason)")
    }

    private static func recognize(
        _ checkpoint: Checkpoint, _ configuration: ModelConfiguration?, _ hints: ModelHints
    ) throws(CheckpointError) -> ModelRecognition? {
        let recognition = try ModelRecognition.recognize(
            checkpoint, configuration: configuration, variant: hints.variant)
        guard case .undecided = recognition, let variant = hints.fallbackVariant else { return recognition }
        return try ModelRecognition.recognize(checkpoint, configuration: configuration, variant: variant)
    }

    /// The model's description; nil where its family is not described.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` where the config.json beside the checkpoint has impossible values, which its
    ///   equations may depend on.
    public var knownDescription: ModelDescription? {
        get throws(CheckpointError) {
            if let impossible { throw impossible }
            guard case .model(let description) = recognition else { return nil }
            return description
        }
    }

    /// The model's description, for what can only be done with one.
    ///
    /// - Throws: ``CheckpointError`` of category `unsupported` where its family is not described; as ``knownDescription``.
    public var description: ModelDescription {
        get throws(CheckpointError) {
            if let description = try knownDescription { return description }
            // A configuration that was given has said all it has.
            let advice = configuration == nil ? "give its config.json by --config" : nil
            switch recognition {
            case .other(let family, let variant, _):
                throw CheckpointError(
                    .unsupported, path: path, "the family \(variant ?? family) is recognised but not supported")
            case .undecided(let candidates, _):
                throw CheckpointError(
                    .unsupported, path: path,
                    "it is one of \(candidates.joined(separator: ", ")), and its tensors cannot tell", advice: advice)
            case .model, nil:
                throw CheckpointError(.unsupported, path: path, "the model is not of a known family", advice: advice)
            }
        }
    }
}
