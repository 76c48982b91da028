package import Foundation

/// The built binary, run as a user runs it.
package enum CommandLineTool {
    /// What a run left behind.
    package struct Output: Sendable {
        package let status: Int32
        package let out: String
        package let err: String
    }

    /// Beside the test bundle, where the package manager puts both.
    private static var binary: URL {
        URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "rwkv-ckpt")
    }

    /// When a signal is sent.
    package enum Moment {
        /// So many seconds after the start.
        case after(Double)
        /// So many seconds after there is this file.
        case appearance(of: URL, after: Double = 0)
    }

    /// Runs the tool in the repository's root, or elsewhere; after two minutes it is killed, which `status` shows.
    ///
    /// - Parameters:
    ///   - arguments: of the tool.
    ///   - directory: where it runs.
    ///   - out: what its standard output goes to.
    ///   - environment: what is added to the environment.
    ///   - signal: what it is sent, and when.
    /// - Returns: how it ended, and what it said.
    /// - Throws: where it cannot be run.
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
        // Files, not pipes: nobody has to read while the tool writes.
        return try withTemporaryDirectory { directory in
            let urls = ["out", "err"].map { directory.appending(path: $0) }
            for url in urls { try Data().write(to: url) }
            process.standardOutput = try out ?? FileHandle(forWritingTo: urls[0])
            process.standardError = try FileHandle(forWritingTo: urls[1])
            try process.run()
            // Not the polite signal: the thread that started the process may have it blocked, and the process with it.
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
