import CheckpointFiles
import Glibc

// What the machine and the surroundings of the process say.

/// Where files that nobody is to see are put: TMPDIR, as everywhere on Unix.
func temporaryDirectory() -> String {
    getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
}

/// A directory of its own for models, which is gone with them when the work is done, or fails.
func withTemporaryDirectory<Result>(_ work: (String) throws -> Result) throws -> Result {
    let parent = temporaryDirectory()
    guard let path = makeTemporaryDirectory(prefix: parent + "/rwkv-ckpt", mode: 0o700) else {
        throw CheckpointError(
            .cannotCreate, path: parent, "no directory can be made in it: \(String(cString: strerror(errno)))")
    }
    defer {
        for directory in [path + "/student", path] {
            for name in namesInDirectory(directory) { unlink(directory + "/" + name) }
            rmdir(directory)
        }
    }
    return try work(path)
}

/// The name of the processor, as Linux has it.
func processorName() -> String { line("model name", of: "/proc/cpuinfo") ?? "unknown processor" }

/// How many processes wanted to run in the last minute, on average.
func systemLoad() -> Double {
    var load = 0.0
    return getloadavg(&load, 1) == 1 ? load : 0
}

/// The most memory that the process had at once, mapped files included: what getrusage says may be another's, from before it began.
func peakMemory() -> Int {
    line("VmHWM", of: "/proc/self/status").flatMap { Int($0.prefix { $0.isNumber }) }.map { $0 * 1024 } ?? 0
}

/// What stands behind a name and a colon in a file of such lines.
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
