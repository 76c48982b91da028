import Glibc

/// Makes a file whose name begins with `prefix`, that nobody else may read; its descriptor is -1 where it cannot be made (`errno`).
func makeTemporaryFile(prefix: String) -> (descriptor: CInt, path: String) {
    var template = Array((prefix + ".XXXXXX").utf8CString)
    let descriptor = mkstemp(&template)
    return (descriptor, String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
}

/// Appends all of `bytes` to a file; false where it takes no more (`errno`).
func append(_ bytes: RawSpan, to descriptor: CInt) -> Bool {
    bytes.withUnsafeBytes { bytes in
        var done = 0
        while done < bytes.count {
            let written = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            guard written >= 0 || errno == EINTR else { return false }
            done += max(0, written)
        }
        return true
    }
}
