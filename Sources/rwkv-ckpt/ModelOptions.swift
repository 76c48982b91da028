import ArgumentParser
import CheckpointFiles
import ModelFamilies

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

    /// The configuration that was asked for, or the one beside the checkpoint; if that cannot be read, a warning says so.
    func configuration(
        of checkpoint: Checkpoint, warnings: inout [CheckpointWarning]
    ) throws(CheckpointError) -> ModelConfiguration? {
        if let config { return try ModelConfiguration(path: config) }
        do throws(CheckpointError) {
            return try ModelConfiguration(beside: checkpoint)
        } catch {
            warnings.append(CheckpointWarning(path: error.path, "is not used: \(error.reason)"))
            return nil
        }
    }

    /// What a checkpoint is found to be; with a warning where the configuration beside it has impossible values, which nobody named.
    func recognition(
        of checkpoint: Checkpoint, warnings: inout [CheckpointWarning]
    ) throws(CheckpointError) -> ModelRecognition? {
        let configuration = try configuration(of: checkpoint, warnings: &warnings)
        do throws(CheckpointError) {
            return try ModelRecognition.recognize(checkpoint, configuration: configuration, variant: variant)
        } catch {
            guard config == nil, error.path == configuration?.path else { throw error }
            warnings.append(CheckpointWarning(path: error.path, "is not used: \(error.reason)"))
        }
        return try ModelRecognition.recognize(checkpoint, configuration: nil, variant: variant)
    }
}
