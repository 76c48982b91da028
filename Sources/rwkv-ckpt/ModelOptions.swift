import ArgumentParser
import CheckpointFiles
import ModelFamilies
import RWKVInference

/// What helps to know a model whose files do not say it.
struct ModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A config.json for what tensors do not show: the model's own, or its teacher's. By default the one beside the checkpoint.",
            valueName: "FILE"),
        completion: .file())
    var config: String?

    @Option(help: ArgumentHelp("The variant, where tensors cannot tell: cxa076, hxa079, ...", valueName: "NAME"))
    var variant: String?

    /// Of the model that they are about.
    var hints: ModelHints { ModelHints(configuration: config, variant: variant) }

    /// The model of a checkpoint, ready to run.
    ///
    /// - Parameters:
    ///   - checkpoint: of a described family.
    ///   - isReference: whether options are first of all about another model: they help only where this one does not say itself.
    ///   - warnings: to which that is added what the user should know.
    /// - Returns: the model.
    /// - Throws: ``CheckpointError``.
    func model(
        _ checkpoint: Checkpoint, isReference: Bool = false, warnings: inout [CheckpointWarning]
    ) throws(CheckpointError) -> Model<Float> {
        let recognised = try RecognisedModel(
            checkpoint, isReference ? ModelHints(fallbackConfiguration: config, fallbackVariant: variant) : hints)
        let model = try Model<Float>(recognised)
        warnings += recognised.warnings + model.warnings
        return model
    }
}
