import Bytes
public import ModelFamilies
public import RWKVNumerics

/// The RoPE rotation of the current tokens, given by the cosines and sines of the rotation angles.
///
/// Only the first R channels of each head are rotated, in pairs.
public struct Rotation<Element: Real> {
    let cosines: Matrix<Element>
    let sines: Matrix<Element>
    private let isInterleaved: Bool

    /// Creates the rotation for tokens at the given positions.
    ///
    /// - Parameters:
    ///   - frequencies: the RoPE frequencies of the layer.
    ///   - positions: the positions of the tokens in their sequence.
    ///   - sequences: the number of concatenated sequences; each has tokens at these positions.
    public init(_ frequencies: RotaryFrequencies, positions: some Sequence<Int>, sequences: Int = 1) {
        var cosines: [Element] = []
        var sines: [Element] = []
        for position in positions {
            for frequency in frequencies.inverse {
                // transformers computes the angles in fp32, and models were trained with these angles.
                let (sine, cosine) = sineAndCosine(Double(Float(position) * frequency))
                cosines.append(Element(cosine * frequencies.factor))
                sines.append(Element(sine * frequencies.factor))
            }
        }
        isInterleaved = frequencies.isInterleaved
        func all(_ numbers: [Element]) -> Matrix<Element> {
            let one = Matrix(numbers, columns: frequencies.inverse.count)
            let all = Matrix<Element>(rows: sequences * one.rows, columns: one.columns)
            for sequence in 0..<sequences { all.replaceRows(from: sequence * one.rows, by: one) }
            return all
        }
        (self.cosines, self.sines) = (all(cosines), all(sines))
    }

    /// Rotates each head in place; a head has `size` channels.
    func apply(to x: Matrix<Element>, size: Int, _ kernels: Kernels<Element>) {
        kernels.rotate(x, size: size, cosines: cosines, sines: sines, isInterleaved: isInterleaved)
    }

    /// Replaces the gradient of the rotated heads with the gradient of the heads before rotation.
    @specialized(where Element == Float)
    func backward(inPlace dx: Matrix<Element>, size: Int, _ kernels: Kernels<Element>) {
        kernels.rotate(
            dx, size: size, cosines: cosines, sines: Matrix(sines.array.map { -$0 }, columns: sines.columns),
            isInterleaved: isInterleaved)
    }
}

/// The RoPE frequencies of a layer: for each pair of channels, the rotation angle per token.
///
/// RoPE types have the same names as in transformers (modeling_rope_utils.py).
public struct RotaryFrequencies: Sendable, Hashable {
    /// The rotation angle per token of each channel pair i, in radians: theta^(-2i/R), scaled according to the RoPE
    /// type.
    public let inverse: [Float]
    /// The attention factor, which scales the cosines and sines.
    public let factor: Double
    /// Whether channels 2i and 2i + 1 of a head form a pair; if false, channels i and i + R/2 do.
    public let isInterleaved: Bool

    /// Computes the RoPE frequencies for the given settings.
    ///
    /// - Parameters:
    ///   - rotary: the RoPE settings. The type must be known, and all parameters that it needs must be present.
    ///   - headSize: the number of channels per head.
    ///   - length: the expected length of the sequence in tokens; affects only the types `dynamic` and `longrope`.
    public init(_ rotary: RotaryEmbedding, headSize: Int, length: Int) {
        isInterleaved = rotary.isInterleaved
        let parameter = { rotary.parameters[$0] ?? 1 }
        let width = Int(Double(headSize) * parameter("partial_rotary_factor"))
        var theta = rotary.theta
        let original = parameter("original_max_position_embeddings")
        let maximum = parameter("max_position_embeddings")
        let stretch = parameter("factor")
        if rotary.type == "dynamic", width > 2 {
            let growth = stretch * max(Double(length), maximum) / maximum - (stretch - 1)
            theta *= exponential(Double(width) / Double(width - 2) * logarithm(growth))
        }
        let plain = (0..<width / 2).map { exponential(-Double(2 * $0) / Double(width) * logarithm(theta)) }
        var factor = 1.0
        let inverse: [Double]
        switch rotary.type {
        case "linear": inverse = plain.map { $0 / stretch }
        case "llama3":
            let (low, high) = (parameter("low_freq_factor"), parameter("high_freq_factor"))
            inverse = plain.map { frequency in
                let turns = original * frequency / (2 * Double.pi)
                if turns > high { return frequency }
                if turns < low { return frequency / stretch }
                let share = (turns - low) / (high - low)
                return (1 - share) * frequency / stretch + share * frequency
            }
        case "yarn":
            inverse = Self.yarn(rotary, plain, width: width)
            factor = rotary.parameters["attention_factor"] ?? Self.yarnFactor(rotary)
        case "longrope":
            let list = rotary.lists[Double(length) > original ? "long_factor" : "short_factor"] ?? []
            inverse = zip(plain, list).map { $0 / $1 }
            let stretch = rotary.parameters["factor"] ?? maximum / original
            let growth = stretch <= 1 ? 1 : (1 + logarithm(stretch) / logarithm(original)).squareRoot()
            factor = rotary.parameters["attention_factor"] ?? growth
        default: inverse = plain
        }
        self.inverse = inverse.map { Float($0) }
        self.factor = factor
    }

    /// Returns the YaRN frequencies: high frequencies are kept, low frequencies are divided by the scaling factor, and
    /// those in between are interpolated.
    private static func yarn(_ rotary: RotaryEmbedding, _ plain: [Double], width: Int) -> [Double] {
        func parameter(_ key: ByteString, _ assumed: Double) -> Double {
            rotary.parameters[key].flatMap { $0 == 0 ? nil : $0 } ?? assumed
        }
        let original = parameter("original_max_position_embeddings", 1)
        // Returns the fractional index of the channel pair that completes `turns` turns over the original context
        // length.
        func channel(turns: Double) -> Double {
            Double(width) * logarithm(original / (turns * 2 * Double.pi)) / (2 * logarithm(rotary.theta))
        }
        var low = channel(turns: parameter("beta_fast", 32))
        var high = channel(turns: parameter("beta_slow", 1))
        if rotary.parameters["truncate"] != 0 { (low, high) = (low.rounded(.down), high.rounded(.up)) }
        low = max(low, 0)
        high = min(high, Double(width - 1))
        if low == high { high += 0.001 }
        return plain.enumerated().map { index, frequency in
            let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
            return frequency / parameter("factor", 1) * ramp + frequency * (1 - ramp)
        }
    }

    private static func yarnFactor(_ rotary: RotaryEmbedding) -> Double {
        let stretch = rotary.parameters["factor"] ?? 1
        func scale(_ share: Double) -> Double { stretch <= 1 ? 1 : 0.1 * share * logarithm(stretch) + 1 }
        let (share, shareOfAll) = (rotary.parameters["mscale"] ?? 0, rotary.parameters["mscale_all_dim"] ?? 0)
        return share != 0 && shareOfAll != 0 ? scale(share) / scale(shareOfAll) : scale(1)
    }
}
