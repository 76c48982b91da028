extension DType {
    /// The values that each of the 256 bytes encodes, for unquantised types of eight or four bits; nil for other types.
    var valuesOfBytes: [[Double]]? {
        let format: SmallFloat
        switch self {
        case .bool, .u8: return (0..<256).map { [Double($0)] }
        case .i8: return (0..<256).map { [Double(Int8(truncatingIfNeeded: $0))] }
        case .f8E8M0:
            // Only an exponent, biased by 127 (OCP Microscaling Formats 1.0, section 5.4.1).
            return (0..<256).map { $0 == 255 ? [.nan] : [Double(sign: .plus, exponent: $0 - 127, significand: 1)] }
        case .f4E2M1:
            // Two elements per byte (OCP Microscaling Formats 1.0, section 5.3.3).
            let format = SmallFloat(exponentBits: 2, mantissaBits: 1, bias: 1, specials: .none)
            return (0..<256).map { [format.value($0 & 0xF), format.value($0 >> 4)] }
        // OCP 8-bit Floating Point Specification 1.0, table 1.
        case .f8E5M2: format = SmallFloat(exponentBits: 5, mantissaBits: 2, bias: 15, specials: .asIEEE)
        case .f8E4M3: format = SmallFloat(exponentBits: 4, mantissaBits: 3, bias: 7, specials: .nanAllOnes)
        // Noune, Jones, Justus, Masters, Luschi 2022, "8-bit Numerical Formats for Deep Neural Networks".
        case .f8E4M3FNUZ: format = SmallFloat(exponentBits: 4, mantissaBits: 3, bias: 8, specials: .nanMinusZero)
        case .f8E5M2FNUZ: format = SmallFloat(exponentBits: 5, mantissaBits: 2, bias: 16, specials: .nanMinusZero)
        default: return nil
        }
        return (0..<256).map { [format.value($0)] }
    }
}

/// A floating-point format of up to eight bits: sign, exponent, mantissa.
private struct SmallFloat {
    enum Specials {
        /// Every bit pattern is a number.
        case none
        /// The highest exponent encodes infinity and NaN.
        case asIEEE
        /// All ones apart from the sign encode NaN; infinity does not exist.
        case nanAllOnes
        /// The pattern of minus zero encodes NaN; infinity does not exist.
        case nanMinusZero
    }

    let exponentBits: Int
    let mantissaBits: Int
    let bias: Int
    let specials: Specials

    func value(_ bits: Int) -> Double {
        let isNegative = bits >> (exponentBits + mantissaBits) == 1
        let highest = (1 << exponentBits) - 1
        let exponent = bits >> mantissaBits & highest
        let mantissa = bits & ((1 << mantissaBits) - 1)
        switch specials {
        case .asIEEE where exponent == highest: return mantissa == 0 ? (isNegative ? -.infinity : .infinity) : .nan
        case .nanAllOnes where exponent == highest && mantissa == (1 << mantissaBits) - 1: return .nan
        case .nanMinusZero where isNegative && exponent == 0 && mantissa == 0: return .nan
        default: break
        }
        let significand = Double(exponent == 0 ? mantissa : mantissa + 1 << mantissaBits)
        return Double(
            sign: isNegative ? .minus : .plus, exponent: max(exponent, 1) - bias - mantissaBits,
            significand: significand)
    }
}
