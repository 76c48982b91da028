/// The type of a tensor's elements; raw values are safetensors' names, or follow torch's if safetensors has none.
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
    /// Complex: two F16 values.
    case c32 = "C32"
    /// Complex: two BF16 values.
    case bc32 = "BC32"
    /// Complex: two F64 values.
    case c128 = "C128"
    /// Quantised: an I8 that needs a scale.
    case qi8 = "QI8"
    /// Quantised: a U8 that needs a scale.
    case qu8 = "QU8"
    /// Quantised: an I32 that needs a scale.
    case qi32 = "QI32"

    /// Whether safetensors files can hold elements of this type.
    public var isInSafetensors: Bool {
        switch self {
        case .c32, .bc32, .c128, .qi8, .qu8, .qi32: false
        default: true
        }
    }

    /// The number of bits in an element; fewer than eight for packed types.
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

    /// Returns the number of elements in `byteCount` bytes; for packed types, the number of bits is at most `Int.max`.
    func elementCount(ofBytes byteCount: Int) -> Int {
        bitWidth < 8 ? byteCount.multiplied(clamped: 8) / bitWidth : byteCount / (bitWidth / 8)
    }

    /// The reason why a shape has no size in bytes.
    public enum SizeError: Error, Sendable {
        /// The number of bits, not counting zero dimensions, exceeds 2^63 - 1.
        case overflow
        /// The elements do not fill whole bytes.
        case partialByte
    }

    /// Returns the size in bytes of a contiguous tensor of `shape`.
    ///
    /// - Throws: ``SizeError`` if the size overflows or the elements do not fill whole bytes. The overflow check leaves
    ///   out zero dimensions, so it does not depend on the order of the dimensions.
    public func byteCount(of shape: [Int]) throws(SizeError) -> Int {
        var size = ShapeSize()
        for dimension in shape { size.append(dimension) }
        return try size.byteCount(of: self)
    }
}

/// The size of a shape, accumulated dimension by dimension.
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
