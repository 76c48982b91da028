package import Foundation

/// The paths of files in the repository, which do not depend on the working directory of the tests.
package enum Repository {
    /// The root directory of the repository.
    package static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Returns the path of a file in fixtures/.
    package static func fixture(_ path: String) -> String {
        root.appending(path: "fixtures").appending(path: path).path(percentEncoded: false)
    }

    /// Decodes a JSON document in fixtures/.
    package static func json<Document: Decodable>(_ path: String, as type: Document.Type) throws -> Document {
        try JSONDecoder().decode(type, from: Data(contentsOf: URL(filePath: fixture(path))))
    }
}

/// Calls a closure with a temporary directory, and removes the directory afterwards.
package func withTemporaryDirectory<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "rwkv-ckpt-" + UUID().uuidString)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try body(directory)
}
