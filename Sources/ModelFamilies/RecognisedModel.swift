public import Bytes
public import CheckpointFiles

/// Information about a model that the user provides in addition to the model's files.
public struct ModelHints: Sendable, Hashable {
    /// The path of a config.json to use instead of the one next to the checkpoint.
    public var configuration: String?
    /// The name of the variant that the tensors must match.
    public var variant: String?
    /// The path of a config.json to use if ``configuration`` is nil and no config.json next to the checkpoint can be
    /// read.
    public var fallbackConfiguration: String?
    /// The name of the variant to assume if neither the tensors nor the configuration identifies one.
    public var fallbackVariant: String?

    /// Creates hints, all of which are nil by default.
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

/// A model that was recognised from a checkpoint, or from a config.json without weights.
///
/// Recognition determines the family and the sizes from the tensors as far as possible. Constants come from a
/// config.json: the one that the hints name, otherwise the one next to the checkpoint, otherwise the fallback in the
/// hints.
///
///     let teacher = try RecognisedModel(path: "Qwen3-8B", temporaryDirectory: "/tmp")
///     print(try teacher.description.layers)
public struct RecognisedModel: Sendable {
    /// The path of the checkpoint, or of the config.json.
    public let path: String
    /// The checkpoint, or nil if there is only a config.json.
    public let checkpoint: Checkpoint?
    /// The config.json that was used, or nil if there is none or if it cannot be used.
    public let configuration: ModelConfiguration?
    /// The result of recognition, or nil if the model's family is not known.
    public let recognition: ModelRecognition?
    /// Warnings for the user: the checkpoint's own warnings, followed by those from recognition.
    public let warnings: [CheckpointWarning]
    /// The error that recognition threw for the config.json next to the checkpoint, or nil if it threw none.
    private let impossible: CheckpointError?
    /// The error that reading the config.json next to the checkpoint threw, or nil if it threw none.
    private let unreadable: CheckpointError?

    /// Recognises the model of a checkpoint.
    ///
    /// If the config.json next to the checkpoint cannot be read or has invalid values, it is ignored with a warning.
    ///
    /// - Parameters:
    ///   - checkpoint: the checkpoint.
    ///   - hints: information about the model that the user provides.
    /// - Throws: `CheckpointError` if a config.json named by the hints cannot be used, or if the variant in the hints
    ///   is unknown or does not match the tensors.
    public init(_ checkpoint: Checkpoint, _ hints: ModelHints = ModelHints()) throws(CheckpointError) {
        var warnings = checkpoint.warnings
        var configuration: ModelConfiguration?
        var unreadable: CheckpointError?
        if let path = hints.configuration {
            configuration = try ModelConfiguration(path: path)
        } else {
            do throws(CheckpointError) {
                configuration = try ModelConfiguration(beside: checkpoint)
            } catch {
                warnings.append(Self.unused(error))
                unreadable = error
            }
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
        self.unreadable = unreadable
    }

    /// Recognises the model in a checkpoint, or the model that a config.json without weights describes.
    ///
    /// - Parameters:
    ///   - path: the path of the checkpoint or config.json.
    ///   - hints: information about the model that the user provides; if it names a config.json, `path` must be a
    ///     checkpoint.
    ///   - temporaryDirectory: the directory in which to unpack compressed files that cannot be read in place.
    /// - Throws: `CheckpointError` in the same cases as ``init(_:_:)``, or if the checkpoint cannot be opened.
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
    ///   - variant: the name of a variant, which must be a known name but is otherwise ignored.
    /// - Throws: `CheckpointError` if the variant is unknown, or the configuration has invalid values.
    public init(_ configuration: ModelConfiguration, variant: String? = nil) throws(CheckpointError) {
        path = configuration.path
        checkpoint = nil
        self.configuration = configuration
        recognition = try ModelRecognition.recognize(nil, configuration: configuration, variant: variant)
        warnings = Self.warnings(of: configuration, recognition)
        impossible = nil
        unreadable = nil
    }

    /// Returns a warning if config.json has unknown keys, which may change the equations; otherwise returns an empty
    /// array.
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

    /// The model's description, or nil if its family is unknown, undecided or not supported.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if the config.json next to the checkpoint has invalid
    ///   values, because the equations may depend on those values.
    public var knownDescription: ModelDescription? {
        get throws(CheckpointError) {
            if let impossible { throw impossible }
            guard case .model(let description) = recognition else { return nil }
            return description
        }
    }

    /// The model's description, for operations that require one.
    ///
    /// - Throws: `CheckpointError` of category `unsupported` if there is no description; any error that
    ///   ``knownDescription`` throws; or, if a value is not known, the error with which the config.json next to the
    ///   checkpoint could not be read.
    public var description: ModelDescription {
        get throws(CheckpointError) {
            if let description = try knownDescription {
                if !description.unknown.isEmpty, let unreadable { throw unreadable }
                return description
            }
            // If a config.json has already been used, another one is unlikely to help.
            let advice = configuration == nil ? "pass its config.json with --config" : nil
            switch recognition {
            case .other(let family, let variant, _):
                throw CheckpointError(
                    .unsupported, path: path, "the family \(variant ?? family) is recognised but not supported")
            case .undecided(let candidates, _):
                let canBeNamed = ArchitectureRegistry.variantNames.contains { candidates.contains($0) }
                throw CheckpointError(
                    .unsupported, path: path,
                    "its tensors match several architectures: \(candidates.joined(separator: ", "))",
                    advice: canBeNamed
                        ? "name the one that it is with --variant, or in rwkv_architecture in config.json"
                        : "pass its config.json with --config")
            case .model, nil:
                throw CheckpointError(.unsupported, path: path, "the model's family is not known", advice: advice)
            }
        }
    }
}
