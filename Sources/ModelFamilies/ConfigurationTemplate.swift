package import CheckpointJSON

/// The config.json that a family's own model class reads, for models in one layout.
package struct ConfigurationTemplate: Sendable {
    /// The members that are the same for all models of the family.
    package let members: [String: JSONValue]
    /// The key of each size.
    package let sizes: [ModelDimension: String]
    /// The key of the epsilon of the norms.
    package let epsilonKey: String
}
