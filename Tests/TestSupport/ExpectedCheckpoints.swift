/// fixtures/safetensors/expected.json: what the libraries that wrote the checkpoints say is in them.
package struct ExpectedCheckpoints: Decodable, Sendable {
    /// By path below fixtures/safetensors.
    package let checkpoints: [String: Contents]

    /// One checkpoint.
    package struct Contents: Decodable, Sendable {
        package let metadata: [String: String]
        package let tensors: [Tensor]
    }

    /// One tensor.
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
