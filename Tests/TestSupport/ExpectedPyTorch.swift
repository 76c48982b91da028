package import Foundation

/// fixtures/pytorch/expected.json: what torch says is in the files that it wrote.
package struct ExpectedPyTorch: Decodable, Sendable {
    /// By path below fixtures/pytorch.
    package let checkpoints: [String: Contents]
    /// Files that are almost all hole, by name.
    package let sparse: [String: Sparse]

    /// One checkpoint.
    package struct Contents: Decodable, Sendable {
        package let tensors: [Tensor]
        package let tied: [[String]]
        package let others: [String]
    }

    /// One tensor.
    package struct Tensor: Decodable, Sendable {
        package let name, dtype, sha256: String
        package let shape: [Int]
    }

    /// A file by the bytes of it that are not zero.
    package struct Sparse: Decodable, Sendable {
        package struct Extent: Decodable, Sendable {
            let offset: UInt64
            let bytes: String
        }

        package let size: UInt64
        package let extents: [Extent]
        package let tensors: [Tensor]

        /// Writes the file, its holes as holes.
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

    /// Reads the document.
    package static func load() throws -> ExpectedPyTorch {
        try Repository.json("pytorch/expected.json", as: ExpectedPyTorch.self)
    }
}
