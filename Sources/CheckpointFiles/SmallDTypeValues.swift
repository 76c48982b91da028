extension DType {
    /// The values that each of the 256 possible bytes encodes; nil unless the type is unquantised and has four or eight
    /// bits.
    var valuesOfBytes: [[Double]]? {
        let format: SmallFloat
        switch self {
        case .bool, .u8: return (0..<256).map { [Double($0)] }
        case .i8: return (0..<256).map { [Double(Int8(truncatingIfNeeded: $0))] }
        case .f8E8M0:
            // The byte is an exponent with a bias of 127 (OCP Microscaling Formats 1.0, section 5.4.1).
            return (0..<256).map { $0 == 255 ? [.nan] : [Double(sign: .plus, exponent: $0 - 127, significand: 1)] }
        case .f4E2M1:
            // A byte contains two elements, with the first in the low bits (OCP Microscaling Formats 1.0, section
            // 5.3.3).
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

/// A floating-point format of at most eight bits, with a sign, an exponent and a mantissa.
private struct SmallFloat {
    enum Specials {
        /// Every bit pattern is a number.
        case none
        /// Infinity and NaN have the highest exponent.
        case asIEEE
        /// NaN has all exponent and mantissa bits set. There is no infinity.
        case nanAllOnes
        /// NaN has the bit pattern of minus zero. There is no infinity.
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
