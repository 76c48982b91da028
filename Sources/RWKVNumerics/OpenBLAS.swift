import CRWKVKernels
import Glibc
import Synchronization

/// The OpenBLAS library that this process has loaded.
///
/// Products run on the calling thread only.
struct OpenBLAS: Sendable {
    /// The version of the library, such as "0.3.21".
    let version: String
    /// The core whose kernels the library runs.
    let core: OpenBLASCore
    private let single: SinglePrecision
    private let double: DoublePrecision

    /// A reason why OpenBLAS cannot be used.
    enum Failure: Error, Equatable {
        /// OpenBLAS is not installed or cannot be loaded; the associated value is the loader's message.
        case cannotLoad(String)
        /// The library is older than version 0.3.
        case tooOld(version: String)
        /// The library does not report a version, or reports it in an unknown format.
        case unknownVersion
        /// The library lacks a function that we call.
        case lacks(version: String, function: String)
        /// The library's kernels use instructions that the processor does not have.
        case cannotRun(version: String, running: String)
        /// The library runs kernels that we do not know, or kernels with narrower vectors than requested.
        case lowerCore(version: String, running: String, wanted: String)
        /// The library's kernels use instructions beyond the requested instruction set.
        case exceedsLimit(version: String, running: String, limit: InstructionSet)
        /// The library computed a wrong product.
        case wrongProducts(version: String, core: String, product: String)
    }

    /// Returns the OpenBLAS library, or the reason why it cannot be used with an instruction set.
    ///
    /// The first call selects a core and loads the library. The process keeps that core for its lifetime.
    ///
    /// - Parameters:
    ///   - instructionSet: the instruction set for products.
    ///   - isLimit: whether `instructionSet` is a limit, so that `OPENBLAS_CORETYPE` cannot select wider vectors.
    /// - Returns: the library, or the reason why it cannot be used.
    static func running(
        _ instructionSet: InstructionSet, isLimit: Bool
    ) -> Result<OpenBLAS, Failure> {
        process.withLock { process in
            let wanted = wantedCore(instructionSet, isLimit: isLimit)
            let loaded = process ?? load(wanted)
            process = loaded
            return loaded.flatMap { library in
                if let failure = library.compared(with: wanted) { return .failure(failure) }
                if isLimit, library.core.vectors > instructionSet.vectors {
                    return .failure(
                        .exceedsLimit(version: library.version, running: library.core.name, limit: instructionSet))
                }
                return loaded
            }
        }
    }

    private func compared(with wanted: OpenBLASCore) -> Failure? {
        core.vectors < wanted.vectors
            ? .lowerCore(version: version, running: core.name, wanted: wanted.name) : nil
    }

    /// Computes y = a b, or y += a b if `adds`.
    ///
    /// a is [rows, inner] and b is [inner, columns]. The rows of y are `stride` elements apart.
    func multiply<Element: Real>(
        _ size: (rows: Int, columns: Int, inner: Int), _ a: Factor<Element>, _ b: Factor<Element>,
        into y: UnsafeMutablePointer<Element>, stride: Int, adds: Bool = false
    ) {
        let (m, n, k) = (CInt(size.rows), CInt(size.columns), CInt(size.inner))
        let (lda, ldb, ldc) = (CInt(a.stride), CInt(b.stride), CInt(stride))
        let (aOrder, bOrder) = (
            a.isTransposed ? Self.transposed : Self.plain, b.isTransposed ? Self.transposed : Self.plain
        )
        if Element.self == Double.self {
            double(
                Self.rowMajor, aOrder, bOrder, m, n, k, 1, a.elements, lda, b.elements, ldb, adds ? 1 : 0, y, ldc)
        } else {
            single(
                Self.rowMajor, aOrder, bOrder, m, n, k, 1, a.elements, lda, b.elements, ldb, adds ? 1 : 0, y, ldc)
        }
    }

    // MARK: Loading

    private static let process = Mutex<Result<OpenBLAS, Failure>?>(nil)
    /// The value of `OPENBLAS_CORETYPE` that the user has set, read before `load` overwrites it.
    private static let coreType = getenv("OPENBLAS_CORETYPE").map { String(cString: $0) }

    private static func wantedCore(_ instructionSet: InstructionSet, isLimit: Bool) -> OpenBLASCore {
        if let core = coreType.flatMap(OpenBLASCore.init(named:)), core.isSupported,
            !isLimit || core.vectors <= instructionSet.vectors
        {
            return core
        }
        return OpenBLASCore(for: instructionSet)
    }

    private static func load(_ wanted: OpenBLASCore) -> Result<OpenBLAS, Failure> {
        // OpenBLAS reads these variables when it is loaded. It gets one thread, because its own threads would spin
        // alongside ours.
        setenv("OPENBLAS_NUM_THREADS", "1", 1)
        setenv("OPENBLAS_CORETYPE", wanted.name, 1)
        guard let library = dlopen("libopenblas.so.0", RTLD_LAZY | RTLD_LOCAL) else {
            return .failure(.cannotLoad(dlerror().map { String(cString: $0) } ?? ""))
        }
        func text(_ function: String) -> String? {
            guard let symbol = dlsym(library, function),
                let text = unsafeBitCast(symbol, to: (@convention(c) () -> UnsafePointer<CChar>?).self)()
            else { return nil }
            return String(cString: text)
        }
        // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
        let words = text("openblas_get_config")?.split(separator: " ") ?? []
        let numbers = words.count < 2 ? [] : words[1].split(separator: ".").map { UInt($0) }
        guard numbers.count >= 2, let major = numbers[0], let minor = numbers[1] else {
            return .failure(.unknownVersion)
        }
        let version = String(words[1])
        guard major > 0 || minor >= 3 else { return .failure(.tooOld(version: version)) }
        guard let running = text("openblas_get_corename") else {
            return .failure(.lacks(version: version, function: "openblas_get_corename"))
        }
        guard let single = dlsym(library, "cblas_sgemm"), let double = dlsym(library, "cblas_dgemm") else {
            return .failure(.lacks(version: version, function: "cblas_sgemm or cblas_dgemm"))
        }
        guard let core = OpenBLASCore(named: running) else {
            return .failure(.lowerCore(version: version, running: running, wanted: wanted.name))
        }
        let found = OpenBLAS(
            version: version, core: core, single: unsafeBitCast(single, to: SinglePrecision.self),
            double: unsafeBitCast(double, to: DoublePrecision.self))
        // The core is checked before any of its kernels run.
        if let failure = found.compared(with: wanted) { return .failure(failure) }
        guard core.isSupported else { return .failure(.cannotRun(version: version, running: running)) }
        // OpenBLAS has separate kernels for products of up to 100 x 100 x 100, so a smaller and a larger product are
        // checked. No size is a multiple of the tile size of a kernel, and the inner size of the larger product exceeds
        // the number of inner elements that a kernel processes at once.
        for check in [
            ProductCheck(rows: 23, columns: 37, inner: 41), ProductCheck(rows: 29, columns: 33, inner: 1101),
        ] {
            let mistake =
                check.mistake {
                    found.multiply($0, $1, $2, into: $3 as UnsafeMutablePointer<Float>, stride: $4, adds: $5)
                }
                ?? check.mistake {
                    found.multiply($0, $1, $2, into: $3 as UnsafeMutablePointer<Double>, stride: $4, adds: $5)
                }
            if let mistake { return .failure(.wrongProducts(version: version, core: running, product: mistake)) }
        }
        return .success(found)
    }

    // MARK: Declarations from cblas.h

    private static let rowMajor: CInt = 101
    private static let plain: CInt = 111
    private static let transposed: CInt = 112

    private typealias SinglePrecision =
        @convention(c) (
            CInt, CInt, CInt, CInt, CInt, CInt, Float, UnsafeRawPointer, CInt, UnsafeRawPointer, CInt, Float,
            UnsafeMutableRawPointer, CInt
        ) -> Void
    private typealias DoublePrecision =
        @convention(c) (
            CInt, CInt, CInt, CInt, CInt, CInt, Double, UnsafeRawPointer, CInt, UnsafeRawPointer, CInt, Double,
            UnsafeMutableRawPointer, CInt
        ) -> Void
}

extension OpenBLAS.Failure: CustomStringConvertible {
    var description: String {
        switch self {
        case .cannotLoad(let reason): "OpenBLAS cannot be loaded (\(reason))"
        case .tooOld(let version): "OpenBLAS \(version) is too old; 0.3 or later is needed"
        case .unknownVersion: "the version of OpenBLAS cannot be determined"
        case .lacks(let version, let function): "OpenBLAS \(version) lacks \(function)"
        case .cannotRun(let version, let running):
            "OpenBLAS \(version) runs its \(running) kernels, which this processor cannot run"
        case .lowerCore(let version, let running, let wanted):
            "OpenBLAS \(version) runs its \(running) kernels instead of \(wanted)"
        case .exceedsLimit(let version, let running, let limit):
            "OpenBLAS \(version) runs its \(running) kernels, which go beyond --isa \(limit.rawValue)"
        case .wrongProducts(let version, let core, let product):
            "OpenBLAS \(version) computes wrong products with its \(core) kernels (\(product))"
        }
    }
}

/// A factor of a matrix product.
struct Factor<Element: Real> {
    /// The stored elements in row-major order, before any transposition.
    let elements: UnsafePointer<Element>
    /// The number of elements from the start of one stored row to the next.
    let stride: Int
    /// Whether the factor is the transpose of the stored matrix.
    let isTransposed: Bool

    init(_ elements: UnsafePointer<Element>, stride: Int, isTransposed: Bool = false) {
        (self.elements, self.stride, self.isTransposed) = (elements, stride, isTransposed)
    }
}
