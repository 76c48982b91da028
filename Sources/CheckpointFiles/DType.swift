import Bytes

/// The data type of a tensor's elements.
///
/// Raw values are the names that safetensors uses. Types that safetensors does not have are named in the same style.
public enum DType: String, Sendable, CaseIterable {
    case bool = "BOOL"
    case u8 = "U8"
    case i8 = "I8"
    case u16 = "U16"
    case i16 = "I16"
    case u32 = "U32"
    case i32 = "I32"
    case u64 = "U64"
    case i64 = "I64"
    case f4E2M1 = "F4"
    case f6E2M3 = "F6_E2M3"
    case f6E3M2 = "F6_E3M2"
    case f8E5M2 = "F8_E5M2"
    case f8E4M3 = "F8_E4M3"
    case f8E8M0 = "F8_E8M0"
    case f8E4M3FNUZ = "F8_E4M3FNUZ"
    case f8E5M2FNUZ = "F8_E5M2FNUZ"
    case f16 = "F16"
    case bf16 = "BF16"
    case f32 = "F32"
    case f64 = "F64"
    case c64 = "C64"
    /// A complex number with F16 real and imaginary parts.
    case c32 = "C32"
    /// A complex number with BF16 real and imaginary parts.
    case bc32 = "BC32"
    /// A complex number with F64 real and imaginary parts.
    case c128 = "C128"
    /// A quantised number, stored as an I8, that must be combined with a scale.
    case qi8 = "QI8"
    /// A quantised number, stored as a U8, that must be combined with a scale.
    case qu8 = "QU8"
    /// A quantised number, stored as an I32, that must be combined with a scale.
    case qi32 = "QI32"

    /// Whether safetensors files can contain elements of this type.
    public var isInSafetensors: Bool {
        switch self {
        case .c32, .bc32, .c128, .qi8, .qu8, .qi32: false
        default: true
        }
    }

    /// The number of bits in an element, which is less than eight for packed types.
    public var bitWidth: Int {
        switch self {
        case .f4E2M1: 4
        case .f6E2M3, .f6E3M2: 6
        case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .qi8, .qu8: 8
        case .u16, .i16, .f16, .bf16: 16
        case .u32, .i32, .f32, .c32, .bc32, .qi32: 32
        case .u64, .i64, .f64, .c64: 64
        case .c128: 128
        }
    }

    /// Returns the number of elements in `byteCount` bytes.
    ///
    /// For packed types, the number of bits is clamped to `Int.max`.
    func elementCount(ofBytes byteCount: Int) -> Int {
        bitWidth < 8 ? byteCount.multiplied(clamped: 8) / bitWidth : byteCount / (bitWidth / 8)
    }

    /// The reason why the size of a tensor in bytes cannot be computed.
    public enum SizeError: Error, Sendable {
        /// The number of bits, computed without the dimensions that are zero, exceeds 2^63 - 1.
        case overflow
        /// The number of bits is not a multiple of eight.
        case partialByte
    }

    /// Returns the size in bytes of a contiguous tensor with the given shape.
    ///
    /// - Throws: ``SizeError`` if the size overflows or is not a whole number of bytes. The overflow check ignores
    ///   dimensions that are zero, so its result does not depend on the order of the dimensions.
    public func byteCount(of shape: [Int]) throws(SizeError) -> Int {
        var size = ShapeSize()
        for dimension in shape { size.append(dimension) }
        return try size.byteCount(of: self)
    }
}

/// The size of a shape, computed one dimension at a time.
struct ShapeSize {
    private var elementsBesideZeros = 1
    private var hasZero = false
    private var overflows = false

    mutating func append(_ dimension: Int) {
        guard dimension > 0 else {
            hasZero = true
            return
        }
        let (product, overflow) = elementsBesideZeros.multipliedReportingOverflow(by: dimension)
        overflows = overflows || overflow
        elementsBesideZeros = product
    }

    func byteCount(of dtype: DType) throws(DType.SizeError) -> Int {
        let (bits, overflow) = elementsBesideZeros.multipliedReportingOverflow(by: dtype.bitWidth)
        guard !overflows, !overflow else { throw .overflow }
        guard !hasZero else { return 0 }
        guard bits % 8 == 0 else { throw .partialByte }
        return bits / 8
    }
}
