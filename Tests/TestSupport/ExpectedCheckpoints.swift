/// The contents of fixtures/safetensors/expected.json.
///
/// The file states the contents of checkpoints, as reported by the libraries that wrote them.
package struct ExpectedCheckpoints: Decodable, Sendable {
    /// The contents of each checkpoint, keyed by its path in fixtures/safetensors.
    package let checkpoints: [String: Contents]

    /// The contents of a checkpoint.
    package struct Contents: Decodable, Sendable {
        package let metadata: [String: String]
        package let tensors: [Tensor]
    }

    /// A tensor in a checkpoint.
    package struct Tensor: Decodable, Sendable {
        package let name: String
        package let dtype: String
        package let shape: [Int]
        package let sha256: String
        package let stats: Statistics?
    }

    /// The statistics of a tensor, as computed by torch in double precision.
    package struct Statistics: Decodable, Sendable {
        package let min, max, mean, std: Double?
        package let zeros, nan, inf: Int
    }

    /// Reads fixtures/safetensors/expected.json.
    package static func load() throws -> ExpectedCheckpoints {
        try Repository.json("safetensors/expected.json", as: ExpectedCheckpoints.self)
    }
}
