import Glibc

/// Where files that nobody is to see are put: TMPDIR, as everywhere on Unix.
func temporaryDirectory() -> String {
    getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
}
