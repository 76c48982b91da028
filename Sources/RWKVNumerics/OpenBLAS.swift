import CRWKVKernels
import Glibc

/// OpenBLAS' matrix products, one thread each.
///
/// The library is loaded when one is first asked for: 30 MB that what only looks into files need not wait for.
enum OpenBLAS {
    /// y = a b, or that is added to y: [rows, inner] and [inner, columns] to [rows, columns]; `stride` is between rows of y.
    static func multiply<Element: Real>(
        _ size: (rows: Int, columns: Int, inner: Int), _ a: Factor<Element>, _ b: Factor<Element>,
        into y: UnsafeMutablePointer<Element>, stride: Int, adds: Bool = false
    ) {
        let (m, n, k) = (CInt(size.rows), CInt(size.columns), CInt(size.inner))
        let (lda, ldb, ldc) = (CInt(a.stride), CInt(b.stride), CInt(stride))
        let (aOrder, bOrder) = (a.isTransposed ? transposed : plain, b.isTransposed ? transposed : plain)
        if Element.self == Double.self {
            functions?.double(
                rowMajor, aOrder, bOrder, m, n, k, 1, a.elements, lda, b.elements, ldb, adds ? 1 : 0, y, ldc)
        } else {
            functions?.single(
                rowMajor, aOrder, bOrder, m, n, k, 1, a.elements, lda, b.elements, ldb, adds ? 1 : 0, y, ldc)
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

/// A factor of a matrix product.
struct Factor<Element: Real> {
    /// Row by row as they stand.
    let elements: UnsafePointer<Element>
    /// Numbers between rows as they stand.
    let stride: Int
    /// Whether its transpose is meant.
    let isTransposed: Bool

    init(_ elements: UnsafePointer<Element>, stride: Int, isTransposed: Bool = false) {
        (self.elements, self.stride, self.isTransposed) = (elements, stride, isTransposed)
    }
}
