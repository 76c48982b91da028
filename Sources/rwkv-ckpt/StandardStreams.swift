import Bytes
import CheckpointFiles
import Glibc

/// Returns standard output, for a command's result.
func standardOutput() -> ByteOutput {
    output(to: STDOUT_FILENO, name: "standard output")
}

/// Returns standard error, for diagnostics.
func standardError() -> ByteOutput {
    output(to: STDERR_FILENO, name: "standard error")
}

/// Prints the tool's name and a line to standard error.
func printError(_ line: String) {
    var output = standardError()
    output.write("rwkv-ckpt: \(line)\n")
    // There is nowhere left to report that standard error cannot be written to.
    try? output.finish()
}

/// Prints a warning as one line to standard error.
func printWarning(_ warning: CheckpointWarning) {
    printError("warning: \(warning.path.printable()): \(warning.message.printable(limit: 1000))")
}

private func output(to descriptor: CInt, name: String) -> ByteOutput {
    ByteOutput { bytes in
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                // The descriptor is non-blocking: wait until it accepts more.
                var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&wait, 1, -1)
            } else if errno != EINTR {
                throw CheckpointError(
                    .inputOutput, path: name, "cannot be written: " + String(cString: strerror(errno)))
            }
        }
    }
}
