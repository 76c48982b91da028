import CRWKVKernels
import Glibc

/// OpenBLAS' matrix products, one thread each.
///
/// The library is loaded when one is first asked for: 30 MB that what only looks into files need not wait for.
enum OpenBLAS {
    /// y = a b, or a b^T, or that is added to y: [rows, inner] and [inner, columns], or [columns, inner], to [rows, columns]; strides are
    /// between rows.
    static func multiply<Element: Real>(
        _ size: (rows: Int, columns: Int, inner: Int), _ a: UnsafePointer<Element>, stride aStride: Int,
        _ b: UnsafePointer<Element>, stride bStride: Int, isTransposed: Bool, into y: UnsafeMutablePointer<Element>,
        stride yStride: Int, adds: Bool = false
    ) {
        let order = isTransposed ? transposed : plain
        let (m, n, k) = (CInt(size.rows), CInt(size.columns), CInt(size.inner))
        let (lda, ldb, ldc) = (CInt(aStride), CInt(bStride), CInt(yStride))
        if Element.self == Double.self {
            functions?.double(rowMajor, plain, order, m, n, k, 1, a, lda, b, ldb, adds ? 1 : 0, y, ldc)
        } else {
            functions?.single(rowMajor, plain, order, m, n, k, 1, a, lda, b, ldb, adds ? 1 : 0, y, ldc)
        }
    }

    /// Whether it is there.
    static var isAvailable: Bool { functions != nil }

    // As cblas.h has them.

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

    private static let functions: (single: SinglePrecision, double: DoublePrecision)? = {
        // It reads that when it is loaded, and there is no other way to say it. Threads of its own would spin beside ours.
        setenv("OPENBLAS_NUM_THREADS", "1", 1)
        if let core = rwkv_openblas_core() { setenv("OPENBLAS_CORETYPE", core, 1) }
        guard let library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL),
            let single = dlsym(library, "cblas_sgemm"), let double = dlsym(library, "cblas_dgemm")
        else { return nil }
        return (unsafeBitCast(single, to: SinglePrecision.self), unsafeBitCast(double, to: DoublePrecision.self))
    }()
}
