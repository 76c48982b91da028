public import CheckpointFiles

/// What the user states about a model when its files do not.
public struct ModelHints: Sendable, Hashable {
    /// The path of a config.json to use instead of the one next to the checkpoint.
    public var configuration: String?
    /// The name of the variant, which the tensors must match.
    public var variant: String?
    /// The path of a config.json to use if ``configuration`` is nil and none next to the checkpoint can be read.
    public var fallbackConfiguration: String?
    /// The name of the variant to assume if neither tensors nor configuration decide.
    public var fallbackVariant: String?

    /// Creates hints; all are nil by default.
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

/// A checkpoint, or only a config.json, and the model recognised from it.
///
/// Tensors determine the family and sizes. Constants come from a config.json: the one that a hint names, otherwise the
/// one next to the checkpoint, otherwise a hint's fallback.
///
///     let teacher = try RecognisedModel(path: "Qwen3-8B", temporaryDirectory: "/tmp")
///     print(try teacher.description.layers)
public struct RecognisedModel: Sendable {
    /// The path of the checkpoint, or of the config.json.
    public let path: String
    /// The checkpoint; nil if there is only a config.json.
    public let checkpoint: Checkpoint?
    /// The config.json that was used; nil if there is none, or it cannot be used.
    public let configuration: ModelConfiguration?
    /// The result of recognition; nil if the model's family is not known.
    public let recognition: ModelRecognition?
    /// Warnings for the user, starting with the checkpoint's.
    public let warnings: [CheckpointWarning]
    /// The error that makes the config.json next to the checkpoint unusable although it can be read; nil if none.
    private let impossible: CheckpointError?

    /// Recognises the model of a checkpoint.
    ///
    /// A config.json next to the checkpoint that cannot be read, or has invalid values, is ignored with a warning.
    ///
    /// - Parameters:
    ///   - checkpoint: the checkpoint.
    ///   - hints: what the user states about it.
    /// - Throws: ``CheckpointError`` if a hint's config.json cannot be used, or its variant is unknown or does not
    ///   match.
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

    /// Recognises the model of a checkpoint, or the model that a config.json describes without weights.
    ///
    /// - Parameters:
    ///   - path: the path of the checkpoint or config.json.
    ///   - hints: what the user states about it; if they name a config.json, `path` must be a checkpoint.
    ///   - temporaryDirectory: where compressed files that cannot be read in place are unpacked.
    /// - Throws: ``CheckpointError`` in the same cases as ``init(_:_:)``, or if the checkpoint cannot be opened.
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
    ///   - configuration: the config.json.
    ///   - variant: the name of a variant, which must be known but is not used.
    /// - Throws: ``CheckpointError`` if the variant is unknown, or the configuration has invalid values.
    public init(_ configuration: ModelConfiguration, variant: String? = nil) throws(CheckpointError) {
        path = configuration.path
        checkpoint = nil
        self.configuration = configuration
        recognition = try ModelRecognition.recognize(nil, configuration: configuration, variant: variant)
        warnings = Self.warnings(of: configuration, recognition)
        impossible = nil
    }

    /// Returns a warning about unknown keys, on which equations may depend; empty if there are none.
    private static func warnings(
        of configuration: ModelConfiguration?, _ recognition: ModelRecognition?
    ) -> [CheckpointWarning] {
        guard case .model(let model)? = recognition, let configuration else { return [] }
        let unknown = configuration.unknownKeys(in: model.architecture)
        guard !unknown.isEmpty else { return [] }
        let names = unknown.prefix(8).joined(separator: ", ") + (unknown.count > 8 ? ", ..." : "")
        return [
            CheckpointWarning(
                path: configuration.path, "has unknown keys that may change the equations: \(names)")
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

    /// The model's description; nil if its family is unknown, undecided or not supported.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` if the config.json next to the checkpoint has invalid
    ///   values, because equations may depend on them.
    public var knownDescription: ModelDescription? {
        get throws(CheckpointError) {
            if let impossible { throw impossible }
            guard case .model(let description) = recognition else { return nil }
            return description
        }
    }

    /// The model's description, for operations that require one.
    ///
    /// - Throws: ``CheckpointError`` of category `unsupported` if there is none; otherwise as ``knownDescription``.
    public var description: ModelDescription {
        get throws(CheckpointError) {
            if let description = try knownDescription { return description }
            // If a config.json has already been used, another one is unlikely to help.
            let advice = configuration == nil ? "pass its config.json with --config" : nil
            switch recognition {
            case .other(let family, let variant, _):
                throw CheckpointError(
                    .unsupported, path: path, "the family \(variant ?? family) is recognised but not supported")
            case .undecided(let candidates, _):
                throw CheckpointError(
                    .unsupported, path: path,
                    "its tensors fit each of \(candidates.joined(separator: ", "))", advice: advice)
            case .model, nil:
                throw CheckpointError(.unsupported, path: path, "the model's family is not known", advice: advice)
            }
        }
    }
}
