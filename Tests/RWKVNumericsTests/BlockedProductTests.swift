import CRWKVKernels
import Testing

@testable import RWKVNumerics

/// Tests our own blocked product, and the check that the products of OpenBLAS must pass before they are used.
struct BlockedProductTests {
    // The sizes are smaller and larger than a block of 256, and most of them are not multiples of a tile's size.
    private static func checks() -> [ProductCheck] {
        [
            ProductCheck(rows: 1, columns: 1, inner: 1), ProductCheck(rows: 23, columns: 37, inner: 41),
            ProductCheck(rows: 13, columns: 300, inner: 257), ProductCheck(rows: 101, columns: 107, inner: 389),
        ]
    }

    private func own<Element: Real>(
        _ functions: UnsafePointer<rwkv_layer_kernels>, _: Element.Type
    ) -> ProductCheck.Multiply<Element> {
        { size, a, b, y, stride, adds in
            var scratch = [Element](repeating: .nan, count: RWKV_MULTIPLY_SCRATCH)
            functions.pointee.multiply(
                size.rows, size.columns, size.inner, a.elements, a.isTransposed ? 1 : a.stride,
                a.isTransposed ? a.stride : 1, b.elements, b.isTransposed ? 1 : b.stride,
                b.isTransposed ? b.stride : 1, adds ? 1 : 0, y, stride, &scratch)
        }
    }

    @Test("is right in both precisions, with transposed factors, adding or not", arguments: [0, 1, 2])
    func product(_ set: Int) {
        for isStrict: Int32 in [0, 1] {
            let set = rwkv_instruction_set(rwkv_instruction_set.RawValue(set))
            guard let floats = rwkv_layer_kernels_for(set, RWKV_REAL_F32, isStrict),
                let doubles = rwkv_layer_kernels_for(set, RWKV_REAL_F64, isStrict)
            else { return }
            for check in Self.checks() {
                #expect(check.mistake(own(floats, Float.self)) == nil)
                #expect(check.mistake(own(doubles, Double.self)) == nil)
            }
        }
    }

    /// A fault in an otherwise correct product.
    enum Fault: CaseIterable {
        case forgetsToAdd
        case addsToWhatIsThere
        case takesTransposedAsPlain
        case writesAfterRows
        case roundsToFloat
        case givesNoNumber
    }

    @Test("the check finds faults", arguments: Fault.allCases)
    func faults(_ fault: Fault) throws {
        let right = own(
            try #require(rwkv_layer_kernels_for(RWKV_INSTRUCTION_SET_BASELINE, RWKV_REAL_F64, 1)), Double.self)
        let check = ProductCheck(rows: 23, columns: 37, inner: 41)
        #expect(check.mistake(right) == nil)
        let mistake = check.mistake { (size, a: Factor<Double>, b: Factor<Double>, y, stride, adds) in
            switch fault {
            case .forgetsToAdd: right(size, a, b, y, stride, false)
            case .addsToWhatIsThere: right(size, a, b, y, stride, true)
            case .takesTransposedAsPlain:
                // The plain factor reads fewer elements than the transposed factor has, so nothing is read out of
                // bounds.
                let plain = Factor(b.elements, stride: size.columns)
                right(size, a, b.isTransposed ? plain : b, y, stride, adds)
            case .writesAfterRows:
                right(size, a, b, y, stride, adds)
                y[size.columns] += 1
            case .roundsToFloat:
                right(size, a, b, y, stride, adds)
                y[0] = Double(Float(y[0]))
            case .givesNoNumber:
                right(size, a, b, y, stride, adds)
                y[(size.rows - 1) * stride + size.columns - 1] = .nan
            }
        }
        let expected =
            switch fault {
            case .forgetsToAdd: "Double 23 x 41 x 37, added"
            case .takesTransposedAsPlain: "Double 23 x 41 x 37, b transposed"
            default: "Double 23 x 41 x 37"
            }
        #expect(mistake == expected)
    }
}
