public import ArgumentParser
import CRWKVKernels
import CheckpointFiles
import RWKVNumerics

/// How a model is run.
struct RunOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How many threads to use, 1 to 1024; results do not depend on it.", valueName: "N"))
    var threads = min(1024, Int(rwkv_available_processors()))

    @Option(
        help: ArgumentHelp(
            "The arithmetic: fast, or strict, which gives the same bits on any x86-64 processor.", valueName: "TABLE"))
    var kernels = KernelTable.fast

    @Option(
        help: ArgumentHelp(
            "The instruction set of kernels, and the limit for OpenBLAS: baseline, avx2 or avx512. The best if not given.",
            valueName: "SET"))
    var isa: InstructionSet?

    func validate() throws {
        try check("--threads", threads, in: 1...1024)
        if let isa, !isa.isAvailable { throw missing(isa) }
    }

    private func missing(_ isa: InstructionSet) -> ValidationError {
        let names = InstructionSet.allCases.filter(\.isAvailable).map(\.rawValue).joined(separator: ", ")
        return ValidationError("--isa must be one of \(names) on this machine, not \(isa.rawValue).")
    }

    /// Why matrix products are not OpenBLAS's; loads it.
    var warnings: [CheckpointWarning] {
        Kernels<Float>(kernels, instructionSet: isa, threads: 1)?.openBLASFailure.map {
            [CheckpointWarning(path: "libopenblas.so.0", $0 + "; matrix products run on our own kernels")]
        } ?? []
    }

    /// With its threads started: after what ends the work on a signal is set up, which needs threads as well.
    func loaded() throws -> Kernels<Float> {
        rwkv_keep_freed_memory()
        guard let kernels = Kernels<Float>(kernels, instructionSet: isa, threads: threads) else {
            throw missing(isa ?? .baseline)
        }
        return kernels
    }
}

extension KernelTable: ExpressibleByArgument {}
extension InstructionSet: ExpressibleByArgument {}

/// What a model is run on.
struct TokenOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Token ids: 1,2,3.", valueName: "IDS"))
    var tokens: TokenList?

    @Option(
        help: ArgumentHelp(
            "Sequences of token ids: .json, .safetensors (tokens), .npy, .u16, .u32, or .bin beside .idx.",
            valueName: "FILE"),
        completion: .file())
    var tokensFile: String?

    var isGiven: Bool { tokens != nil || tokensFile != nil }

    func validate() throws {
        if tokens != nil, tokensFile != nil { throw ValidationError("Give one of --tokens and --tokens-file.") }
    }

    /// What was asked for; nil where nothing was.
    func given() throws(CheckpointError) -> TokenSequences? {
        if let tokensFile { return try TokenSequences(contentsOf: tokensFile) }
        if let tokens { return try TokenSequences([tokens.ids], path: "--tokens") }
        return nil
    }
}

/// `1,2,3`.
struct TokenList: ExpressibleByArgument {
    let ids: [Int]

    init?(argument: String) {
        let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        ids = numbers.compactMap { $0 }
        if ids.count != numbers.count, !argument.isEmpty { return nil }
    }
}
