package import Foundation

/// Where the repository's files are, whatever directory the tests run in.
package enum Repository {
    /// The root of the repository.
    package static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// The path of a file below fixtures/.
    package static func fixture(_ path: String) -> String {
        root.appending(path: "fixtures").appending(path: path).path(percentEncoded: false)
    }

    /// A JSON document below fixtures/.
    package static func json<Document: Decodable>(_ path: String, as type: Document.Type) throws -> Document {
        try JSONDecoder().decode(type, from: Data(contentsOf: URL(filePath: fixture(path))))
    }
}

/// Runs `body` with a directory that is gone afterwards.
package func withTemporaryDirectory<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "rwkv-ckpt-" + UUID().uuidString)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try body(directory)
}
