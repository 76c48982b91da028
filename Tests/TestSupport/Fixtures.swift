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

/// Writes a safetensors file with tensors of bf16 zeros, which take no room on a disk.
package func writeSafetensors(_ tensors: [(name: String, shape: [Int])], to url: URL) throws {
    var offset = 0
    var members: [String] = []
    for (name, shape) in tensors {
        let end = offset + 2 * shape.reduce(1, *)
        members.append(#""\#(name)":{"dtype":"BF16","shape":\#(shape),"data_offsets":[\#(offset),\#(end)]}"#)
        offset = end
    }
    let header = Data("{\(members.joined(separator: ","))}".utf8)
    try (withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) } + header).write(to: url)
    let file = try FileHandle(forWritingTo: url)
    try file.truncate(atOffset: UInt64(8 + header.count + offset))
    try file.close()
}
