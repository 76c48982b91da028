import Glibc

extension FileSource {
    /// Unpacks a source into a file without a name, which is gone with the value.
    ///
    /// - Throws: what the source throws, or ``CheckpointError`` of category `inputOutput` where the file cannot be written.
    convenience init(unpacking source: any ByteSource, inDirectory directory: String) throws(CheckpointError) {
        var template = Array((directory + "/rwkv-ckpt-XXXXXX").utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else {
            throw systemError(
                errno, path: directory, "cannot hold the file unpacked from \(source.path)", category: .inputOutput)
        }
        unlink(template)
        self.init(descriptor: descriptor, path: source.path, count: source.count)
        for start in stride(from: 0, to: source.count, by: 1 << 20) {
            let part = try source.bytes(start..<min(start + 1 << 20, source.count))
            var done = 0
            while done < part.count {
                let written = part.withUnsafeBytes {
                    pwrite(descriptor, $0.baseAddress.map { $0 + done }, $0.count - done, off_t(start + done))
                }
                guard written >= 0 || errno == EINTR else {
                    throw systemError(
                        errno, path: directory, "cannot hold the file unpacked from \(source.path)",
                        category: .inputOutput)
                }
                done += max(0, written)
            }
        }
    }
}
