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
    /// What multiplies matrices of many rows in the fast table; nil for our own kernels.
    private let openBLAS: OpenBLAS?
    /// Why the fast table multiplies without OpenBLAS, as in "OpenBLAS 0.3.21 runs its Prescott kernels instead of SkylakeX"; nil where it
    /// does not.
    public let openBLASFailure: String?
    /// The other threads; nil where there are none.
    private let workers: Workers?

    /// Kernels for this machine; nil where it lacks the instruction set.
    ///
    /// - Parameters:
    ///   - table: how exactly results are to be the same.
    ///   - instructionSet: the limit for kernels and for OpenBLAS; the best of this machine, and any core that OPENBLAS_CORETYPE names, if
    ///     nil.
    ///   - threads: how many threads to use; no more than there are processors are of use, or used.
    public init?(_ table: KernelTable, instructionSet: InstructionSet? = nil, threads: Int) {
        let isLimit = instructionSet != nil
        let instructionSet = instructionSet ?? .best
        let set = instructionSet.kernels
        guard let functions = rwkv_layer_kernels_for(set, Element.real, table == .strict ? 1 : 0),
            let machine = rwkv_kernels_for(set)
        else { return nil }
        self.instructionSet = instructionSet
        self.functions = functions.pointee
        self.machine = machine.pointee
        self.table = table
        switch table == .fast ? OpenBLAS.running(instructionSet, isLimit: isLimit) : nil {
        case .success(let openBLAS): (self.openBLAS, openBLASFailure) = (openBLAS, nil)
        case .failure(let failure): (openBLAS, openBLASFailure) = (nil, failure.description)
        case nil: (openBLAS, openBLASFailure) = (nil, nil)
        }
        self.threads = max(1, min(threads, Int(rwkv_available_processors())))
        workers = self.threads > 1 ? Workers(count: self.threads - 1) : nil
    }

    /// What multiplies matrices of many rows.
    public var product: MatrixProduct {
        switch table {
        case .strict: MatrixProduct(library: "own", version: nil, core: "strict")
        case .fast:
            openBLAS.map { MatrixProduct(library: "OpenBLAS", version: $0.version, core: $0.core.name) }
                ?? MatrixProduct(library: "own", version: nil, core: instructionSet.rawValue)
        }
    }

    /// y = a b, or y += a b if `adds`: [rows, inner] and [inner, columns] to [rows, columns]; `stride` is between rows of y.
    func multiply(
        _ size: (rows: Int, columns: Int, inner: Int), _ a: Factor<Element>, _ b: Factor<Element>,
        into y: UnsafeMutablePointer<Element>, stride: Int, adds: Bool = false
    ) {
        if let openBLAS { return openBLAS.multiply(size, a, b, into: y, stride: stride, adds: adds) }
        withUnsafeTemporaryAllocation(
            byteCount: RWKV_MULTIPLY_SCRATCH * MemoryLayout<Element>.stride, alignment: cacheLine
        ) { scratch in
            functions.multiply(
                size.rows, size.columns, size.inner, a.elements, a.isTransposed ? 1 : a.stride,
                a.isTransposed ? a.stride : 1, b.elements, b.isTransposed ? 1 : b.stride,
                b.isTransposed ? b.stride : 1, adds ? 1 : 0, y, stride, scratch.baseAddress)
        }
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

/// What multiplies matrices of many rows: the fast table gives the same bytes wherever this and the instruction set are the same.
public struct MatrixProduct: Sendable, Equatable, CustomStringConvertible {
    /// `OpenBLAS`, or `own` for our own kernels.
    public let library: String
    /// Of OpenBLAS.
    public let version: String?
    /// Whose kernels OpenBLAS runs; of our own the instruction set, or `strict`.
    public let core: String

    /// As in "OpenBLAS 0.3.21 SkylakeX".
    public var description: String { [library, version, core].compactMap(\.self).joined(separator: " ") }
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

    /// Whether this machine has it.
    public var isAvailable: Bool { rwkv_kernels_for(kernels) != nil }

    fileprivate var kernels: rwkv_instruction_set {
        switch self {
        case .baseline: RWKV_INSTRUCTION_SET_BASELINE
        case .avx2: RWKV_INSTRUCTION_SET_AVX2
        case .avx512: RWKV_INSTRUCTION_SET_AVX512
        }
    }
}
