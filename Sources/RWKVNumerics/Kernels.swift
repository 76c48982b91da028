import CRWKVKernels

/// How a model's arithmetic is done: a table of kernels, and the threads that run them.
///
///     let kernels = Kernels<Float>(.fast, threads: 2)
///     let y = kernels.product(x, weight)
///
/// Results do not depend on the number of threads, in either table. What a token goes through is specialised for `Float`: what a generic
/// function looks up about its types takes as long as its kernel does for one row.
public struct Kernels<Element: Real>: @unchecked Sendable {
    /// How exactly results are the same.
    public let table: KernelTable
    /// What its own kernels are compiled for.
    public let instructionSet: InstructionSet
    /// How many threads run them.
    public let threads: Int
    let functions: rwkv_layer_kernels
    let machine: rwkv_kernels
    /// The other threads; nil where there are none.
    private let workers: Workers?

    /// Kernels for this machine; nil where it lacks the instruction set.
    ///
    /// - Parameters:
    ///   - table: how exactly results are to be the same.
    ///   - instructionSet: the best of this machine if nil.
    ///   - threads: how many threads to use; no more than there are processors are of use, or used.
    public init?(_ table: KernelTable, instructionSet: InstructionSet? = nil, threads: Int) {
        let instructionSet = instructionSet ?? .best
        let set = instructionSet.kernels
        guard let functions = rwkv_layer_kernels_for(set, Element.real, table == .strict ? 1 : 0),
            let machine = rwkv_kernels_for(set)
        else { return nil }
        self.instructionSet = instructionSet
        self.functions = functions.pointee
        self.machine = machine.pointee
        self.table = table
        self.threads = max(1, min(threads, Int(rwkv_available_processors())))
        workers = self.threads > 1 ? Workers(count: self.threads - 1) : nil
    }

    /// Does pieces of work, each by one thread.
    func forEach(_ count: Int, _ work: (Int) -> Void) {
        guard let workers, count > 1 else { return (0..<count).forEach(work) }
        workers.forEach(count, work)
    }

    /// Does what is done to each row by itself, some rows at a time.
    func overRows(of matrix: Matrix<Element>, _ work: (_ start: Int, _ count: Int) -> Void) {
        // Less is done sooner than another thread is awake.
        let rows = max(1, (1 << 14) / max(1, matrix.columns))
        forEach((matrix.rows + rows - 1) / rows) { piece in
            work(piece * rows, min(rows, matrix.rows - piece * rows))
        }
    }
}

/// How exactly results are the same.
public enum KernelTable: String, Sendable, CaseIterable {
    /// To the bit, on any x86-64 processor, for any number of tokens at once.
    case strict
    /// As far as rounding goes, between instruction sets and numbers of tokens; to the bit otherwise.
    case fast
}

/// What a processor offers beyond what all of its kind do.
public enum InstructionSet: String, Sendable, CaseIterable {
    case baseline
    case avx2
    case avx512

    /// The best of this machine.
    public static var best: InstructionSet {
        let best = rwkv_best_instruction_set()
        return allCases.first { $0.kernels == best } ?? .baseline
    }

    fileprivate var kernels: rwkv_instruction_set {
        switch self {
        case .baseline: RWKV_INSTRUCTION_SET_BASELINE
        case .avx2: RWKV_INSTRUCTION_SET_AVX2
        case .avx512: RWKV_INSTRUCTION_SET_AVX512
        }
    }
}
