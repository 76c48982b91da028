/// fixtures/safetensors/expected.json: the contents of checkpoints, according to the libraries that wrote them.
package struct ExpectedCheckpoints: Decodable, Sendable {
    /// The checkpoints, by path in fixtures/safetensors.
    package let checkpoints: [String: Contents]

    /// The contents of a checkpoint.
    package struct Contents: Decodable, Sendable {
        package let metadata: [String: String]
        package let tensors: [Tensor]
    }

    /// A tensor.
    package struct Tensor: Decodable, Sendable {
        package let name: String
        package let dtype: String
        package let shape: [Int]
        package let sha256: String
        package let stats: Statistics?
    }

    /// Statistics as torch computes them in double precision.
    package struct Statistics: Decodable, Sendable {
        package let min, max, mean, std: Double?
        package let zeros, nan, inf: Int
    }

    /// Reads the document.
    package static func load() throws -> ExpectedCheckpoints {
        try Repository.json("safetensors/expected.json", as: ExpectedCheckpoints.self)
    }
}
