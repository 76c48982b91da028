package import CheckpointJSON

/// The config.json that a family's own model class reads, for models in one layout.
///
/// A student's config.json has these members in addition to those of its teacher's body.
package struct ConfigurationTemplate: Sendable {
    /// The members that are the same for all models of the family.
    package var members: [String: JSONValue] = [:]
    /// Returns the members that depend on the model's stages and layers.
    package var ofModel: @Sendable (ModelDescription) -> [String: JSONValue] = { _ in [:] }
    /// The keys of sizes that the class needs in addition to those of the architecture.
    package var moreSizes: [ModelDimension: String] = [:]
}
