import ArgumentParser
import Bytes
import CheckpointFiles
import CheckpointJSON
import CheckpointReports

/// A command that reports a failure on standard error, as one line or (with `--json`) one JSON document, and as an exit
/// status.
protocol ReportingCommand: ParsableCommand {
    var json: Bool { get }

    /// Does the command's work and prints its result.
    func report() throws
}

extension ReportingCommand {
    func run() throws {
        do {
            try report()
        } catch let error as CheckpointError {
            let status = error.category.exitStatus
            if json {
                // There is nowhere left to report that standard error cannot be written to.
                try? error.writeJSON(exitStatus: Int(status.rawValue), to: standardError())
            } else {
                printError(error.description)
            }
            throw status
        } catch let error as ValidationError {
            Self.printUsageError(error)
            throw ExitCode.validationFailure
        }
    }
}

extension ParsableCommand {
    /// Prints an error and the usage of this command; by default, argument-parser would print the root command's usage.
    static func printUsageError(_ error: ValidationError) {
        let command = RWKVCkpt.words(of: self).joined(separator: " ")
        let message = fullMessage(for: error).replacing("  See '\(_commandName) ", with: "  See '\(command) ")
        var output = standardError()
        output.write(message + "\n")
        // There is nowhere left to report that standard error cannot be written to.
        try? output.finish()
    }

    /// Returns the words that invoke `command`, such as `rwkv-ckpt bench wkv`; empty if it is outside this command.
    fileprivate static func words(of command: any ParsableCommand.Type) -> [String] {
        if command == self { return [_commandName] }
        let rest = configuration.subcommands.lazy.map { $0.words(of: command) }.first { !$0.isEmpty }
        return rest.map { [_commandName] + $0 } ?? []
    }
}

extension CheckpointError.Category {
    /// The exit status of the process (sysexits.h; 130 for an interruption).
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
