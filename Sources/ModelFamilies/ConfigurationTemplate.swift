package import CheckpointJSON

/// The config.json that a family's own model class reads, for models in one layout.
package struct ConfigurationTemplate: Sendable {
    /// The members that are the same for all models of the family.
    package let members: [String: JSONValue]
    /// The keys of sizes that the class needs in addition to those of the architecture.
    package var moreSizes: [ModelDimension: String] = [:]
}
