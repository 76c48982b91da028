import Bytes
import CheckpointFiles
import Glibc

// Facts about the machine and the environment of the process.

/// Returns the directory for temporary files: TMPDIR, or /tmp if that is unset or empty.
func temporaryDirectory() -> String {
    getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
}

/// Calls `work` with the path of a new directory for models, and deletes the directory when `work` returns or throws.
func withTemporaryDirectory<Result>(_ work: (String) throws -> Result) throws -> Result {
    let parent = temporaryDirectory()
    guard let path = makeTemporaryDirectory(prefix: parent + "/rwkv-ckpt", mode: 0o700) else {
        throw CheckpointError(
            .cannotCreate, path: parent,
            "cannot create a temporary directory in it: \(String(cString: strerror(errno)))")
    }
    defer {
        for directory in [path + "/student", path] {
            for name in namesInDirectory(directory) { unlink(directory + "/" + name) }
            rmdir(directory)
        }
    }
    return try work(path)
}

/// Returns the processor's model name from /proc/cpuinfo.
func processorName() -> String { line("model name", of: "/proc/cpuinfo") ?? "unknown processor" }

/// Returns the load average over the last minute; 0 if it is unknown.
func systemLoad() -> Double {
    var load = 0.0
    return getloadavg(&load, 1) == 1 ? load : 0
}

/// Returns the peak resident memory of the process in bytes, including mapped files; 0 if it is unknown.
///
/// The peak that getrusage reports survives exec, so it may belong to an earlier program.
func peakMemory() -> Int {
    line("VmHWM", of: "/proc/self/status").flatMap { Int($0.prefix { $0.isNumber }) }.map { $0 * 1024 } ?? 0
}

/// Returns the text after the colon in the first line of the file at `path` that begins with `name`; nil if none does.
private func line(_ name: String, of path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, CInt(line.count), file) != nil {
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        if text.hasPrefix(name), let colon = text.firstIndex(of: ":") {
            return String(text[colon...].dropFirst().drop { $0.isWhitespace }.prefix { !$0.isNewline })
        }
    }
    return nil
}
