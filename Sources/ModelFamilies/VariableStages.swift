import Bytes
import CheckpointJSON

/// Stages of time mixing that differ between models of one family.
struct VariableStages: Sendable {
    /// The roles of the tensors that only some of the models have.
    let roles: Set<TensorRole>
    /// The config.json keys that determine stages, including keys that the tensors make redundant.
    let keys: Set<String>
    /// The config.json keys that determine the attention layers.
    var attentionKeys: Set<String> = []
    /// Those of ``keys`` whose stages the tensors do not show.
    let hiddenKeys: [String]
    /// The values of keys for which only some values are implemented.
    var implementedValues: [String: JSONValue] = [:]
    /// Sets the stages of a model.
    ///
    /// `found` contains those of ``roles`` for which the model's time mixing has tensors, or is nil if there are no
    /// tensors. A stage that config.json sets does not depend on the tensors, so that a tensor that it lacks is missing.
    let settle:
        @Sendable (inout TimeMixSpec, _ found: Set<TensorRole>?, ModelConfiguration?) throws(CheckpointError) -> Void
    /// Returns the indices of the attention layers in a model with the given number of layers, or nil if config.json
    /// does not determine them.
    var attentionLayers: @Sendable (ModelConfiguration, Int) throws(CheckpointError) -> Set<Int>? = {
        (_, _) throws(CheckpointError) in nil
    }
}
