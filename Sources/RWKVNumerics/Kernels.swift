package import CRWKVKernels

/// The kernels that a model computes with, and the threads that run them.
///
///     let kernels = Kernels<Float>(.fast, threads: 2)
///     let y = kernels.product(x, weight)
///
/// With either table, results do not depend on the number of threads.
///
/// Functions that run for every token are specialised for `Float`. In an unspecialised generic function, looking up
/// types takes as long as running the kernel on one row.
public struct Kernels<Element: Real>: @unchecked Sendable {
    /// The kernel table, which determines how reproducible results are.
    public let table: KernelTable
    /// The instruction set that our own kernels use.
    public let instructionSet: InstructionSet
    /// The number of threads that run the kernels, including the calling thread.
    public let threads: Int
    let functions: rwkv_layer_kernels
    package let machine: rwkv_kernels
    /// The OpenBLAS library, which multiplies matrices with many rows; nil if our own kernels multiply them.
    private let openBLAS: OpenBLAS?
    /// The reason why the fast table does not use OpenBLAS; nil if it does, or if the table is strict.
    ///
    /// For example, "OpenBLAS 0.3.21 runs its Prescott kernels instead of SkylakeX".
    public let openBLASFailure: String?
    /// The threads that help the calling thread; nil if there are none.
    private let workers: Workers?

    /// Creates kernels for an instruction set; returns nil if this machine does not support it.
    ///
    /// - Parameters:
    ///   - table: the kernel table, which determines how reproducible results are.
    ///   - instructionSet: the instruction set for our own kernels, which also limits the instructions that OpenBLAS
    ///     uses. If nil, our kernels use the best instruction set of this machine, and `OPENBLAS_CORETYPE` can select
    ///     any core that this machine supports.
    ///   - threads: the number of threads to use, which is capped at the number of available processors.
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

    /// The implementation that multiplies matrices with many rows.
    public var product: MatrixProduct {
        switch table {
        case .strict: MatrixProduct(library: "own", version: nil, core: "strict")
        case .fast:
            openBLAS.map { MatrixProduct(library: "OpenBLAS", version: $0.version, core: $0.core.name) }
                ?? MatrixProduct(library: "own", version: nil, core: instructionSet.rawValue)
        }
    }

    /// Computes y = a b, or y += a b if `adds`.
    ///
    /// a is [rows, inner] and b is [inner, columns]. The rows of y are `stride` elements apart.
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

    /// Calls `work` once for each index below `count`, dividing the calls among the threads.
    package func forEach(_ count: Int, _ work: (Int) -> Void) {
        guard let workers, count > 1 else { return (0..<count).forEach(work) }
        workers.forEach(count, work)
    }

    /// Calls `work` for blocks of rows of each head of concatenated sequences, dividing the heads among the threads.
    ///
    /// Each head gets the rows of a sequence in order. A thread calls `work` for all of its heads before it moves on to
    /// the next block, because the heads' parts of a row are on the same page of memory. If it went through all rows
    /// head by head, the pages would not fit in the processor's TLB.
    func overHeads(
        _ heads: Int, sequences: Int, length: Int, _ work: (_ sequence: Int, _ head: Int, _ rows: Range<Int>) -> Void
    ) {
        let groups = min(heads, threads)
        forEach(sequences * groups) { piece in
            let (sequence, group) = (piece / groups, piece % groups)
            for start in stride(from: 0, to: length, by: 256) {
                for head in heads * group / groups..<heads * (group + 1) / groups {
                    work(sequence, head, start..<min(start + 256, length))
                }
            }
        }
    }

    /// Calls `work` for groups of consecutive rows, dividing the groups among the threads.
    ///
    /// The results must not depend on how the rows are grouped.
    func overRows(of matrix: Matrix<Element>, _ work: (_ start: Int, _ count: Int) -> Void) {
        // A smaller group would be finished before another thread could wake up.
        let rows = max(1, (1 << 14) / max(1, matrix.columns))
        forEach((matrix.rows + rows - 1) / rows) { piece in
            work(piece * rows, min(rows, matrix.rows - piece * rows))
        }
    }

    /// Calls `work` for groups of rows of concatenated sequences; a group has rows of one sequence.
    ///
    /// `work` gets the first row, the number of rows, and whether they are the first and the last rows of their sequence.
    func overRows(
        of matrix: Matrix<Element>, sequences: Int,
        _ work: (_ start: Int, _ count: Int, _ isFirst: Bool, _ isLast: Bool) -> Void
    ) {
        precondition(sequences > 0 && matrix.rows % sequences == 0, "rows cannot be divided into sequences")
        let parts = (matrix.rows / sequences).parts(of: max(1, (1 << 14) / max(1, matrix.columns)))
        forEach(sequences * parts.count) { piece in
            let (sequence, part) = (piece / parts.count, piece % parts.count)
            work(
                sequence * (matrix.rows / sequences) + parts[part].lowerBound, parts[part].count, part == 0,
                part == parts.count - 1)
        }
    }
}

/// The implementation that multiplies matrices with many rows.
///
/// The fast table gives the same bits on two machines if this value and the instruction set are the same on both.
public struct MatrixProduct: Sendable, Equatable, CustomStringConvertible {
    /// The name of the library: `OpenBLAS`, or `own` for our own kernels.
    public let library: String
    /// The version of OpenBLAS; nil for our own kernels.
    public let version: String?
    /// The core whose kernels OpenBLAS runs; for our own kernels, the instruction set or `strict`.
    public let core: String

    /// The library, version and core, such as "OpenBLAS 0.3.21 SkylakeX".
    public var description: String { [library, version, core].compactMap(\.self).joined(separator: " ") }
}

/// A kernel table, which determines how reproducible results are.
public enum KernelTable: String, Sendable, CaseIterable {
    /// Results have the same bits on every x86-64 processor, regardless of how many tokens are computed at once.
    case strict
    /// The rounding of results depends on the instruction set, the OpenBLAS core and the number of tokens per call.
    case fast
}

/// An instruction set that kernels are compiled for; every processor supports `baseline`.
public enum InstructionSet: String, Sendable, CaseIterable {
    case baseline
    case avx2
    case avx512

    /// The best instruction set that this machine supports.
    public static var best: InstructionSet {
        let best = rwkv_best_instruction_set()
        return allCases.first { $0.kernels == best } ?? .baseline
    }

    /// Whether this machine supports the instruction set.
    public var isAvailable: Bool { rwkv_kernels_for(kernels) != nil }

    fileprivate var kernels: rwkv_instruction_set {
        switch self {
        case .baseline: RWKV_INSTRUCTION_SET_BASELINE
        case .avx2: RWKV_INSTRUCTION_SET_AVX2
        case .avx512: RWKV_INSTRUCTION_SET_AVX512
        }
    }
}
