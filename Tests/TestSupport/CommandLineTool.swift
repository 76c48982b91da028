package import Foundation

/// A runner for the built command-line tool and the package's other programs.
package enum CommandLineTool {
    /// The result of running a program.
    package struct Output: Sendable {
        package let status: Int32
        package let out: String
        package let err: String
    }

    /// Returns the path of a program, which the package manager puts next to the test bundle.
    private static func binary(of program: String) -> URL {
        URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: program)
    }

    /// The time at which to send a signal.
    package enum Moment {
        /// A number of seconds after the start.
        case after(Double)
        /// A number of seconds after a file appears.
        case appearance(of: URL, after: Double = 0)
    }

    /// Runs the tool or another program of the package.
    ///
    /// If the program does not finish within two minutes, it is killed, and the result's status is -SIGKILL.
    ///
    /// - Parameters:
    ///   - arguments: the program's arguments.
    ///   - program: the name of the program.
    ///   - directory: the working directory, which is the root of the repository by default.
    ///   - out: the file to which standard output is written, or nil to return the output in the result.
    ///   - environment: environment variables to add.
    ///   - signal: a signal to send and the time at which to send it.
    /// - Returns: the exit status and the output.
    /// - Throws: an error if the program cannot be run.
    package static func run(
        _ arguments: [String], program: String = "rwkv-ckpt", in directory: URL = Repository.root,
        out: FileHandle? = nil, environment: [String: String] = [:],
        signal: (number: Int32, when: Moment)? = nil
    ) throws -> Output {
        let process = Process()
        process.executableURL = binary(of: program)
        process.arguments = arguments
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        // Standard output and error are files instead of pipes, so that nothing has to read them while a program runs.
        return try withTemporaryDirectory { directory in
            let urls = ["out", "err"].map { directory.appending(path: $0) }
            for url in urls { try Data().write(to: url) }
            process.standardOutput = try out ?? FileHandle(forWritingTo: urls[0])
            process.standardError = try FileHandle(forWritingTo: urls[1])
            try process.run()
            // SIGTERM would not be reliable: the thread that starts the process can block it, and the process inherits
            // the signal mask.
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
