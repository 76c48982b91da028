import ArgumentParser
import Bytes
import RWKVNumerics

@main
struct RWKVCkpt: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rwkv-ckpt",
        abstract: "Turns transformers into RWKV-7 hybrids, and verifies each step.",
        usage: "rwkv-ckpt <subcommand> [options]",
        discussion: """
            EXAMPLES:
              # Look at a downloaded model, and choose the layers that keep attention.
              rwkv-ckpt inspect Qwen3-0.6B
              rwkv-ckpt plan Qwen3-0.6B --target hxa079 --gqa-layers 6 -o plan.json
              # Make the student, and see how far it is from its teacher.
              rwkv-ckpt convert Qwen3-0.6B --plan plan.json -o student
              rwkv-ckpt verify Qwen3-0.6B student --report
              # Train it for a few minutes.
              rwkv-ckpt distill Qwen3-0.6B student --stage 1 --tokens-file text.u32 \\
                  --steps 140 -o aligned

            Checkpoints are local files and directories: nothing is downloaded, and no code in them is executed.
            """,
        version: CommandLine.arguments.contains("--version") ? versionText : version,
        groupedSubcommands: [
            CommandGroup(name: "Conversion", subcommands: [Plan.self, Convert.self, Distill.self]),
            CommandGroup(name: "Checkpoint", subcommands: [Inspect.self, Diff.self]),
            CommandGroup(name: "Evaluation", subcommands: [Verify.self, Logits.self, Bench.self]),
        ])

    static func main() {
        guard let (word, command) = unknownSubcommand(in: CommandLine.arguments.dropFirst()) else { return main(nil) }
        let names = command.configuration.subcommands.map { $0._commandName }
        let advice = nearest(to: word, among: names).map { " Did you mean '\($0)'?" } ?? ""
        command.printUsageError(ValidationError("Unknown subcommand '\(word.printable())'.\(advice)"))
        exit(withError: ExitCode.validationFailure)
    }

    /// Returns the first argument that should name a subcommand but does not, and the command that it was given to; nil
    /// if there is none.
    ///
    /// argument-parser would report it as an unexpected argument, and suggest nothing.
    private static func unknownSubcommand(
        in arguments: some Sequence<String>
    ) -> (word: String, command: any ParsableCommand.Type)? {
        var command: any ParsableCommand.Type = Self.self
        for word in arguments {
            let subcommands = command.configuration.subcommands
            if subcommands.isEmpty || word.hasPrefix("-") || word == "help" { return nil }
            guard let next = subcommands.first(where: { $0._commandName == word }) else { return (word, command) }
            command = next
        }
        return nil
    }

    /// Returns the name that `word` becomes after the fewest insertions and deletions; nil if every name takes more
    /// than three.
    private static func nearest(to word: String, among names: [String]) -> String? {
        // Lengths are compared first, because the difference from a long word takes quadratic memory.
        names.filter { abs($0.count - word.count) <= 3 }
            .map { (name: $0, distance: $0.difference(from: word).count) }
            .filter { $0.distance <= 3 }
            .min { $0.distance < $1.distance }?.name
    }

    /// The tool's version.
    static let version = "0.1.0"

    /// The version, the instruction set of the kernels, and the library for matrix products; loads OpenBLAS.
    private static var versionText: String {
        let kernels = Kernels<Float>(.fast, threads: 1)
        let instructionSet =
            switch InstructionSet.best {
            case .avx512: "AVX-512"
            case .avx2: "AVX2"
            case .baseline: "baseline"
            }
        let product = kernels.map { [$0.product.description, $0.openBLASFailure].compactMap(\.self) } ?? []
        return "\(version) (\(instructionSet))\nmatrix products: \(product.joined(separator: "; ").printable())"
    }
}
