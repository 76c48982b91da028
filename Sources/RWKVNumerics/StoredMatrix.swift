package import CRWKVKernels

/// A weight matrix as it stands in a file: widened as it is read, whatever its type.
public struct StoredMatrix: @unchecked Sendable {
    /// How many numbers go in.
    public let inputs: Int
    /// How many come out.
    public let outputs: Int
    /// Whether the numbers of an input stand together, [inputs, outputs], and not those of an output.
    let isByInput: Bool
    let element: rwkv_element
    let elements: UnsafeRawPointer
    /// Keeps the bytes where they are.
    private let owner: any AnyObject & Sendable

    /// A matrix of bytes that stay where they are as long as `owner` lives.
    ///
    /// - Parameters:
    ///   - elements: aligned for their type.
    ///   - element: F64, F32, F16 or BF16.
    ///   - shape: as they stand.
    ///   - isByInput: whether that is [inputs, outputs], and not [outputs, inputs].
    ///   - owner: of the bytes.
    package init(
        _ elements: UnsafeRawPointer, _ element: rwkv_element, shape: (Int, Int), isByInput: Bool,
        owner: any AnyObject & Sendable
    ) {
        self.elements = elements
        self.element = element
        (inputs, outputs) = isByInput ? (shape.0, shape.1) : (shape.1, shape.0)
        self.isByInput = isByInput
        self.owner = owner
    }

    /// A matrix that shares the numbers of another: what is done to them shows.
    ///
    /// - Parameters:
    ///   - matrix: row by row, as it is to stand.
    ///   - isByInput: whether that is [inputs, outputs], and not [outputs, inputs].
    public init<Element: Real>(sharing matrix: Matrix<Element>, isByInput: Bool = false) {
        self.init(
            matrix.elements, Element.stored, shape: (matrix.rows, matrix.columns), isByInput: isByInput,
            owner: MatrixOwner(matrix: matrix))
    }

    /// The transposed matrix, of the same bytes.
    package var transposed: StoredMatrix {
        StoredMatrix(elements, element, shape: shape, isByInput: !isByInput, owner: owner)
    }

    /// As it stands.
    var shape: (Int, Int) { isByInput ? (inputs, outputs) : (outputs, inputs) }

    /// Where what belongs to an output begins.
    func start(ofOutput output: Int) -> UnsafeRawPointer {
        elements + output * (isByInput ? 1 : inputs) * element.size
    }
}

/// Keeps a matrix, whose numbers are read through pointers.
private final class MatrixOwner<Element: Real>: @unchecked Sendable {
    private let matrix: Matrix<Element>

    init(matrix: Matrix<Element>) { self.matrix = matrix }
}

extension rwkv_element {
    /// Bytes of a floating-point number.
    package var size: Int {
        switch self {
        case RWKV_ELEMENT_F64: 8
        case RWKV_ELEMENT_F32: 4
        default: 2
        }
    }
}

extension StoredMatrix {
    /// As they stand in the file; theirs as long as the matrix is.
    package var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: elements, count: inputs * outputs * element.size)
    }

    /// All numbers in the order in which they stand.
    public func numbers<Element: Real>() -> [Element] {
        let count = inputs * outputs
        guard let kernels = rwkv_layer_kernels_for(RWKV_INSTRUCTION_SET_BASELINE, Element.real, 1) else { return [] }
        return [Element](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            kernels.pointee.widen(element, elements, count, 1, count, buffer.baseAddress)
            initializedCount = count
        }
    }
}
