public import Bytes
package import CheckpointJSON
public import RWKVNumerics

/// The kernel table, instruction set and matrix-product implementation, which together with the inputs determine the
/// exact bytes of a result; the number of threads does not matter.
public struct Arithmetic: Sendable, Hashable {
    /// The name of the kernel table: `strict` or `fast`.
    public internal(set) var kernels: ByteString
    /// The instruction set that this tool's own kernels are compiled for.
    public internal(set) var instructionSet: ByteString
    /// The implementation of matrix products.
    public internal(set) var product: ByteString

    /// Creates the arithmetic of the given kernels.
    public init<Element: Real>(_ kernels: Kernels<Element>) {
        self.init(
            kernels: ByteString(kernels.table.rawValue), instructionSet: ByteString(kernels.instructionSet.rawValue),
            product: ByteString(kernels.product.description))
    }

    init(kernels: ByteString, instructionSet: ByteString, product: ByteString) {
        (self.kernels, self.instructionSet, self.product) = (kernels, instructionSet, product)
    }

    /// Returns whether both give the same bytes; strict kernels do so on any machine.
    func givesSameBytes(as other: Arithmetic) -> Bool {
        self == other || [kernels, other.kernels].allSatisfy { $0 == ByteString(KernelTable.strict.rawValue) }
    }

    /// A description for messages, for example `fast kernels, avx2, OpenBLAS 0.3.21 Haswell`.
    package var text: String { "\(kernels) kernels, \(instructionSet), \(product)" }
}

extension Arithmetic: JSONRecord {
    package init() { self.init(kernels: "", instructionSet: "", product: "") }

    package mutating func describe(to members: inout some JSONMembers) {
        members.member("kernels", &kernels)
        members.member("instruction_set", &instructionSet)
        members.member("product", &product)
    }
}
