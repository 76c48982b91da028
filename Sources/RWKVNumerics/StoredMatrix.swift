package import CRWKVKernels

/// A weight matrix in its stored type; kernels widen its elements as they read them.
public struct StoredMatrix: @unchecked Sendable {
    /// The number of inputs, which is the number of columns of W in y = x W^T.
    public let inputs: Int
    /// The number of outputs, which is the number of rows of W in y = x W^T.
    public let outputs: Int
    /// Whether the matrix is stored as [inputs, outputs] rather than [outputs, inputs].
    let isInputMajor: Bool
    let element: rwkv_element
    let elements: UnsafeRawPointer
    /// The object that keeps the bytes alive.
    private let owner: any AnyObject & Sendable

    /// Creates a matrix from bytes that stay valid as long as `owner` lives.
    ///
    /// - Parameters:
    ///   - elements: the bytes, which must be aligned to the size of an element.
    ///   - element: F64, F32, F16 or BF16.
    ///   - shape: the number of rows and columns in storage order.
    ///   - isInputMajor: whether `shape` is [inputs, outputs] rather than [outputs, inputs].
    ///   - owner: the object that keeps the bytes alive.
    package init(
        _ elements: UnsafeRawPointer, _ element: rwkv_element, shape: (Int, Int), isInputMajor: Bool,
        owner: any AnyObject & Sendable
    ) {
        self.elements = elements
        self.element = element
        (inputs, outputs) = isInputMajor ? (shape.0, shape.1) : (shape.1, shape.0)
        self.isInputMajor = isInputMajor
        self.owner = owner
    }

    /// Creates a stored matrix that shares its elements with `matrix`, so that changes are visible in both.
    ///
    /// - Parameters:
    ///   - matrix: the matrix that contains the elements.
    ///   - isInputMajor: whether `matrix` is [inputs, outputs] rather than [outputs, inputs].
    public init<Element: Real>(sharing matrix: Matrix<Element>, isInputMajor: Bool = false) {
        self.init(
            matrix.elements, Element.stored, shape: (matrix.rows, matrix.columns), isInputMajor: isInputMajor,
            owner: MatrixOwner(matrix: matrix))
    }

    /// The transposed matrix, which shares this matrix's bytes.
    package var transposed: StoredMatrix {
        StoredMatrix(elements, element, shape: shape, isInputMajor: !isInputMajor, owner: owner)
    }

    /// Returns the matrices of `count` rows each, in storage order, that make up this matrix and share its bytes.
    package func split(rows count: Int) -> [StoredMatrix] {
        precondition(count > 0 && shape.0 % count == 0, "rows cannot be divided evenly")
        return (0..<shape.0 / count).map { number in
            StoredMatrix(
                elements + number * count * shape.1 * element.size, element, shape: (count, shape.1),
                isInputMajor: isInputMajor, owner: owner)
        }
    }

    /// The number of rows and columns in storage order.
    var shape: (Int, Int) { isInputMajor ? (inputs, outputs) : (outputs, inputs) }

    /// Returns the address of the first weight of an output.
    func start(ofOutput output: Int) -> UnsafeRawPointer {
        elements + output * (isInputMajor ? 1 : inputs) * element.size
    }
}

/// An object that keeps a matrix alive while its elements are read through pointers.
private final class MatrixOwner<Element: Real>: @unchecked Sendable {
    private let matrix: Matrix<Element>

    init(matrix: Matrix<Element>) { self.matrix = matrix }
}

extension rwkv_element {
    /// The size of an element in bytes; valid for floating-point types only.
    package var size: Int {
        switch self {
        case RWKV_ELEMENT_F64: 8
        case RWKV_ELEMENT_F32: 4
        default: 2
        }
    }
}

extension StoredMatrix {
    /// The stored bytes, which stay valid as long as this matrix exists.
    package var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: elements, count: inputs * outputs * element.size)
    }

    /// Returns all elements in storage order, converted to `Element`.
    public func numbers<Element: Real>() -> [Element] {
        let count = inputs * outputs
        guard let kernels = rwkv_layer_kernels_for(RWKV_INSTRUCTION_SET_BASELINE, Element.real, 1) else { return [] }
        return [Element](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            kernels.pointee.widen(element, elements, count, 1, count, buffer.baseAddress)
            initializedCount = count
        }
    }
}
