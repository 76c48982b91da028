public import CheckpointFiles

extension ModelRecognition? {
    /// The description of a model of a family that is described, for what can only be done with one.
    ///
    /// - Parameters:
    ///   - path: of the checkpoint.
    ///   - hasConfiguration: whether a config.json was used.
    /// - Returns: what it is.
    /// - Throws: ``CheckpointError`` of category `unsupported`.
    public func described(path: String, hasConfiguration: Bool) throws(CheckpointError) -> ModelDescription {
        // A configuration that was given has said all it has.
        let advice = hasConfiguration ? nil : "give its config.json by --config"
        switch self {
        case .model(let description): return description
        case .other(let family, let variant, _):
            throw CheckpointError(
                .unsupported, path: path, "it is of a family that is known by name alone: \(variant ?? family)")
        case .undecided(let candidates, _):
            throw CheckpointError(
                .unsupported, path: path,
                "it is one of \(candidates.joined(separator: ", ")), and its tensors cannot tell", advice: advice)
        case nil: throw CheckpointError(.unsupported, path: path, "it is no model of a known family", advice: advice)
        }
    }
}
