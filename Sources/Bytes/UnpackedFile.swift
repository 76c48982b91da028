import Glibc

extension FileSource {
    /// Creates a file source by copying the bytes of another source to a temporary file in `directory`.
    ///
    /// The file has no name and disappears when it is closed.
    ///
    /// - Throws: any error that `source` throws, or ``CheckpointError`` of category `inputOutput` if the file cannot be
    ///   written.
    package convenience init(unpacking source: any ByteSource, inDirectory directory: String) throws(CheckpointError) {
        let (descriptor, path) = makeTemporaryFile(prefix: directory + "/rwkv-ckpt", mode: 0o600)
        guard descriptor >= 0 else {
            throw systemError(
                errno, path: directory, "cannot hold the file unpacked from \(source.path)", category: .inputOutput)
        }
        unlink(path)
        self.init(descriptor: descriptor, path: source.path, count: source.count)
        for start in stride(from: 0, to: source.count, by: 1 << 20) {
            let part = try source.bytes(start..<min(start + 1 << 20, source.count))
            guard part.withUnsafeBytes({ put($0, into: descriptor, at: start) }) else {
                throw systemError(
                    errno, path: directory, "cannot hold the file unpacked from \(source.path)", category: .inputOutput)
            }
        }
    }
}
