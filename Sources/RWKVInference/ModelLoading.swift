public import Bytes
import CRWKVKernels
public import CheckpointFiles
public import ModelFamilies
import RWKVLayers
public import RWKVNumerics

extension Model {
    /// Loads a model from a checkpoint.
    ///
    /// Matrices that can be memory-mapped are not read until they are used, unless they have checksums to verify.
    ///
    /// - Parameters:
    ///   - checkpoint: a checkpoint of a supported family.
    ///   - description: the description of the model in the checkpoint.
    ///   - weights: weights that replace those of the checkpoint, each in its stored shape; a vector is a single row.
    /// - Throws: `CheckpointError`: `malformed` or `unsupported` if a tensor is missing, quantised or has the wrong
    ///   size, if a setting that the equations need is not known, or if a head that should be tied differs from the
    ///   embedding; or `inputOutput`.
    public init(
        _ checkpoint: Checkpoint, _ description: ModelDescription, replacing weights: [TensorPlace: StoredMatrix] = [:]
    ) throws(CheckpointError) {
        let reader = try WeightReader<Element>(checkpoint, description, replacing: weights)
        self.checkpoint = checkpoint
        self.description = description
        embedding = try reader.matrix(.embedding)
        head = try reader.isHeadTied ? embedding : reader.matrix(.head)
        embeddingScale = try reader.embeddingScale()
        embeddingNorm =
            description.architecture.body.hasEmbeddingNorm
            ? try reader.norm(.embeddingNormWeight, .embeddingNormBias) : nil
        finalNorm = try reader.norm(.finalNormWeight, .finalNormBias)
        var layers: [Layer<Element>] = []
        for layer in description.layers.indices { layers.append(try reader.layer(layer)) }
        self.layers = layers
        self.reader = reader
        let rotations = description.layers.map(\.rotation)
        var rotaries: [RotaryEmbedding] = []
        for case let rotation? in rotations where !rotaries.contains(rotation) { rotaries.append(rotation) }
        self.rotaries = rotaries
        rotaryIndexByLayer = rotations.map { rotation in rotation.flatMap { rotaries.firstIndex(of: $0) } }
    }

    /// Loads a recognised model.
    ///
    /// - Parameter recognised: a recognised model that has a checkpoint, not just a config.json.
    /// - Throws: `CheckpointError` if the family is not supported or the model has no checkpoint, or the errors of
    ///   ``init(_:_:replacing:)``.
    public init(_ recognised: RecognisedModel) throws(CheckpointError) {
        let description = try recognised.description
        guard let checkpoint = recognised.checkpoint else {
            throw CheckpointError(
                .unsupported, path: recognised.path, "the model cannot be run: a config.json alone has no weights")
        }
        self = try Model(checkpoint, description)
    }

    /// Warnings for the user about tensors that are not used; at most three.
    public var warnings: [CheckpointWarning] {
        description.findings.filter { $0.kind == .unexpected }.prefix(3).map {
            CheckpointWarning(path: checkpoint.path, $0.message + ", and is not used")
        }
    }

    /// Updates the layers after the values of replacement weights have changed.
    ///
    /// Layers share the values of replacement matrices, but hold copies of replacement vectors, which must be copied
    /// again.
    ///
    /// - Throws: `CheckpointError`: the errors of ``init(_:_:replacing:)``.
    public mutating func reread() throws(CheckpointError) {
        for layer in layers.indices where reader.replaces(layer) { layers[layer] = try reader.layer(layer) }
    }
}
