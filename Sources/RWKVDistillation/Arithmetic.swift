public import CheckpointJSON
public import RWKVNumerics

/// What the bytes of a result depend on besides its inputs; they do not depend on the number of threads.
public struct Arithmetic: Sendable, Hashable {
    /// The kernel table: `strict` or `fast`.
    public let kernels: ByteString
    /// The instruction set that this tool's own kernels are compiled for.
    public let instructionSet: ByteString
    /// The implementation of matrix products.
    public let product: ByteString

    /// The arithmetic of some kernels.
    public init<Element: Real>(_ kernels: Kernels<Element>) {
        self.init(
            kernels: ByteString(kernels.table.rawValue), instructionSet: ByteString(kernels.instructionSet.rawValue),
            product: ByteString(kernels.product.description))
    }

    init(kernels: ByteString, instructionSet: ByteString, product: ByteString) {
        (self.kernels, self.instructionSet, self.product) = (kernels, instructionSet, product)
    }

    /// Whether both give the same bytes: strict kernels do so on any machine.
    func givesSameBytes(as other: Arithmetic) -> Bool {
        self == other || [kernels, other.kernels].allSatisfy { $0 == ByteString(KernelTable.strict.rawValue) }
    }

    /// `fast kernels, avx2, OpenBLAS 0.3.21 Haswell`.
    package var text: String { "\(kernels) kernels, \(instructionSet), \(product)" }
}

extension Arithmetic {
    /// Writes the arithmetic as members of a JSON object.
    package func write(to json: inout JSONWriter) {
        json.key("kernels")
        json.value(kernels.text)
        json.key("instruction_set")
        json.value(instructionSet.text)
        json.key("product")
        json.value(product.text)
    }

    init?(_ object: JSONValue) {
        guard let kernels = object["kernels"]?.string, let set = object["instruction_set"]?.string,
            let product = object["product"]?.string
        else { return nil }
        self.init(kernels: kernels, instructionSet: set, product: product)
    }
}
