package import Foundation

/// Runs the built binary as a user does.
package enum CommandLineTool {
    /// The result of a run.
    package struct Output: Sendable {
        package let status: Int32
        package let out: String
        package let err: String
    }

    /// The package manager puts the binary beside the test bundle.
    private static var binary: URL {
        URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "rwkv-ckpt")
    }

    /// The time at which to send a signal.
    package enum Moment {
        /// A number of seconds after the start.
        case after(Double)
        /// A number of seconds after a file appears.
        case appearance(of: URL, after: Double = 0)
    }

    /// Runs the tool, and kills it after two minutes, which `status` shows.
    ///
    /// - Parameters:
    ///   - arguments: the tool's arguments.
    ///   - directory: the working directory; by default, the repository's root.
    ///   - out: the file for its standard output; nil to return it in the result.
    ///   - environment: variables to add to the environment.
    ///   - signal: a signal to send, and when.
    /// - Returns: the exit status and the output.
    /// - Throws: an error if the tool cannot be run.
    package static func run(
        _ arguments: [String], in directory: URL = Repository.root, out: FileHandle? = nil,
        environment: [String: String] = [:],
        signal: (number: Int32, when: Moment)? = nil
    ) throws -> Output {
        let process = Process()
        process.executableURL = binary
        process.arguments = arguments
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        // Files, not pipes, so that nothing has to read while the tool writes.
        return try withTemporaryDirectory { directory in
            let urls = ["out", "err"].map { directory.appending(path: $0) }
            for url in urls { try Data().write(to: url) }
            process.standardOutput = try out ?? FileHandle(forWritingTo: urls[0])
            process.standardError = try FileHandle(forWritingTo: urls[1])
            try process.run()
            // Not SIGTERM: the thread that starts the process may block it, and the process inherits that.
            let watchdog = DispatchWorkItem { kill(process.processIdentifier, SIGKILL) }
            DispatchQueue.global().asyncAfter(deadline: .now() + 120, execute: watchdog)
            if let signal {
                switch signal.when {
                case .after(let seconds): Thread.sleep(forTimeInterval: seconds)
                case .appearance(let file, let seconds):
                    while process.isRunning, !FileManager.default.fileExists(atPath: file.path) {
                        Thread.sleep(forTimeInterval: 0.005)
                    }
                    Thread.sleep(forTimeInterval: seconds)
                }
                kill(process.processIdentifier, signal.number)
            }
            process.waitUntilExit()
            watchdog.cancel()
            return Output(
                status: process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus,
                out: String(decoding: try Data(contentsOf: urls[0]), as: UTF8.self),
                err: String(decoding: try Data(contentsOf: urls[1]), as: UTF8.self))
        }
    }
}
