import ArgumentParser
import Bytes
import CheckpointFiles
import ModelFamilies
import RWKVInference

/// Options that describe a model where its files do not.
struct ModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "config.json with the settings that the tensors do not determine; most students can use their teacher's. Default: the one next to the checkpoint.",
            valueName: "FILE"),
        completion: .file())
    var config: String?

    @Option(
        help: ArgumentHelp(
            "Model variant, if the tensors fit several: \(Self.variants). Default: recognised from tensors and config.json.",
            valueName: "NAME"))
    var variant: String?

    private static let variants = ArchitectureRegistry.variantNames.joined(separator: ", ")

    func validate() throws { try Self.check(variant, "--variant") }

    /// Checks that the value of an option is the name of a variant.
    static func check(_ variant: String?, _ option: String) throws {
        if let variant, !ArchitectureRegistry.variantNames.contains(variant) {
            throw ValidationError("\(option) must be one of \(variants), not \(variant).")
        }
    }

    /// The options as hints about the model.
    var hints: ModelHints { ModelHints(configuration: config, variant: variant) }

    /// Hints about a model that the options describe only where its own files do not say.
    var fallbackHints: ModelHints { ModelHints(fallbackConfiguration: config, fallbackVariant: variant) }

    /// Loads the model of a checkpoint so that it is ready to run.
    ///
    /// - Parameters:
    ///   - checkpoint: a checkpoint of a supported family.
    ///   - hints: hints about this model; nil if they are the options.
    ///   - warnings: the array to which the warnings about the model are appended.
    /// - Returns: the model.
    /// - Throws: `CheckpointError` if the model is not recognised or cannot be loaded.
    func model(
        _ checkpoint: Checkpoint, _ hints: ModelHints? = nil, warnings: inout [CheckpointWarning]
    ) throws(CheckpointError) -> Model<Float> {
        let recognised = try RecognisedModel(checkpoint, hints ?? self.hints)
        let model = try Model<Float>(recognised)
        warnings += recognised.warnings + model.warnings
        return model
    }
}
