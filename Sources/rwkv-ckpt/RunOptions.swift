public import ArgumentParser
import Bytes
import CRWKVKernels
import CheckpointFiles
import RWKVNumerics
import TokenFiles

/// Options for running a model: threads, arithmetic and instruction set.
struct RunOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Number of threads: 1 to 1024; if not given, the number of processors. Results do not depend on it.",
            valueName: "N"))
    var threads = min(1024, Int(rwkv_available_processors()))

    @Option(
        help: ArgumentHelp(
            "Arithmetic: fast, or strict, which gives the same bits on any x86-64 processor.", valueName: "TABLE"))
    var kernels = KernelTable.fast

    @Option(
        help: ArgumentHelp(
            "Instruction set of the kernels, and upper limit for OpenBLAS. Default: the best that this machine supports.",
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

    /// A warning if the fast kernels cannot use OpenBLAS, which this property loads.
    var warnings: [CheckpointWarning] {
        Kernels<Float>(kernels, instructionSet: isa, threads: 1)?.openBLASFailure.map {
            [CheckpointWarning(path: "libopenblas.so.0", $0 + "; matrix products use the built-in kernels")]
        } ?? []
    }

    /// Returns the kernels with their threads started.
    ///
    /// Call it inside ``interruptible(_:_:)``, so that the signal handlers, which need threads too, are set up first.
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

/// Options for the tokens on which a model is run.
struct TokenOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Token ids of one sequence, such as 1,2,3. Default: two sequences of 128 ids, generated from a fixed seed.",
            valueName: "IDS"))
    var tokens: TokenList?

    @Option(
        help: ArgumentHelp(
            "File of token id sequences: .json, .safetensors (the tensor named tokens), .npy, .u16, .u32, or .bin next to its .idx.",
            valueName: "FILE"),
        completion: .file())
    var tokensFile: String?

    var isGiven: Bool { tokens != nil || tokensFile != nil }

    func validate() throws {
        if tokens != nil, tokensFile != nil { throw ValidationError("Give --tokens or --tokens-file, not both.") }
    }

    /// Returns the tokens that were given; nil if none were.
    func given() throws(CheckpointError) -> TokenSequences? {
        if let tokensFile { return try TokenSequences(contentsOf: tokensFile) }
        if let tokens { return try TokenSequences([tokens.ids], path: "--tokens") }
        return nil
    }
}

/// Token ids as an option's value: `1,2,3`.
struct TokenList: ExpressibleByArgument {
    let ids: [Int]

    init?(argument: String) {
        let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        ids = numbers.compactMap { $0 }
        if ids.count != numbers.count, !argument.isEmpty { return nil }
    }
}
