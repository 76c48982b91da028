import Bytes
package import Foundation

/// The contents of fixtures/pytorch/expected.json.
///
/// The file states the contents of the files that torch wrote, as reported by torch.
package struct ExpectedPyTorch: Decodable, Sendable {
    /// The contents of each checkpoint, keyed by its path in fixtures/pytorch.
    package let checkpoints: [String: Contents]
    /// The sparse files, keyed by name.
    package let sparse: [String: Sparse]

    /// The contents of a checkpoint.
    package struct Contents: Decodable, Sendable {
        package let tensors: [Tensor]
        package let tied: [[String]]
        package let others: [String]
    }

    /// A tensor in a checkpoint.
    package struct Tensor: Decodable, Sendable {
        package let name, dtype, sha256: String
        package let shape: [Int]
    }

    /// A file that consists almost entirely of zeros, described by its nonzero bytes.
    package struct Sparse: Decodable, Sendable {
        package struct Extent: Decodable, Sendable {
            let offset: UInt64
            let bytes: String
        }

        package let size: UInt64
        package let extents: [Extent]
        package let tensors: [Tensor]

        /// Writes the file to disk, with holes in place of zeros.
        package func write(to url: URL) throws {
            try Data().write(to: url)
            let file = try FileHandle(forWritingTo: url)
            for extent in extents {
                try file.seek(toOffset: extent.offset)
                try file.write(contentsOf: [UInt8](hexadecimal: extent.bytes))
            }
            try file.truncate(atOffset: size)
            try file.close()
        }
    }

    /// Reads fixtures/pytorch/expected.json.
    package static func load() throws -> ExpectedPyTorch {
        try Repository.json("pytorch/expected.json", as: ExpectedPyTorch.self)
    }
}
