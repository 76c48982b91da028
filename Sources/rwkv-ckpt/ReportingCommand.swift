import ArgumentParser
import CheckpointFiles
import CheckpointReports

/// A command whose failures become one line, or one document with `--json`, and an exit status.
protocol ReportingCommand: ParsableCommand {
    var json: Bool { get }

    /// Does the command's work.
    func report() throws
}

extension ReportingCommand {
    func run() throws {
        do {
            try report()
        } catch let error as CheckpointError {
            let status = error.category.exitStatus
            if json {
                // There is nowhere left to say that standard error cannot be written.
                try? error.writeJSON(exitStatus: Int(status.rawValue), to: standardError())
            } else {
                printError(error.description)
            }
            throw status
        }
    }
}

extension CheckpointError.Category {
    /// What the process ends with (sysexits.h).
    var exitStatus: ExitCode {
        switch self {
        case .malformed, .unsupported, .notFinite, .dangerous: ExitCode(65)
        case .notFound: ExitCode(66)
        case .cannotCreate: ExitCode(73)
        case .inputOutput: ExitCode(74)
        case .cancelled: ExitCode(130)
        }
    }
}
