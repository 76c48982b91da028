import CRWKVKernels
import CheckpointFiles
public import ModelFamilies

/// The initial values of a new tensor, which are the same on every machine.
public struct InitialValues: Sendable {
    /// The formula that computes the values.
    public let initialiser: Initialiser
    /// The tensor's place in the model.
    let place: TensorPlace
    /// The tensor's shape, as its role defines it.
    let shape: [Int]
    let layerCount: Int
    let headSize: Int
    /// The seed of random values, which also depend on `name`.
    let seed: Int
    let name: String

    /// The maximum number of elements of an orthogonal tensor.
    ///
    /// All of the elements are in memory at once. The low-rank matrices of a model have fewer elements than this limit.
    private static let orthogonalLimit = 1 << 24

    var elementCount: Int { shape.reduce(1, *) }

    /// Whether the formula supports the shape.
    var isPossible: Bool {
        if case .orthogonal = initialiser { return shape.count == 2 && elementCount <= Self.orthogonalLimit }
        return true
    }

    /// Computes the values of an orthogonal tensor; returns nil if the formula is a different one.
    ///
    /// The result contains min(rows, columns) orthogonal vectors of max(rows, columns) elements each, stored
    /// consecutively.
    ///
    /// - Parameters:
    ///   - kernels: the kernels to use.
    ///   - check: called before every eight vectors, and can stop the work by throwing an error.
    /// - Returns: the vectors to pass to ``value(at:in:)``.
    /// - Throws: any error that `check` throws.
    func vectors<Failure: Error>(
        _ kernels: rwkv_kernels, check: () throws(Failure) -> Void
    ) throws(Failure) -> [Double]? {
        guard case .orthogonal(let gain) = initialiser else { return nil }
        let (rows, columns) = (shape[0], shape[1])
        let (count, length) = (min(rows, columns), max(rows, columns))
        var generator = NormalGenerator(seed: seed, name: name)
        var vectors = [Double](unsafeUninitializedCapacity: elementCount) { buffer, count in
            for index in buffer.indices { buffer.initializeElement(at: index, to: generator.next()) }
            count = buffer.count
        }
        for start in stride(from: 0, to: count, by: 8) {
            try check()
            kernels.orthonormalise(&vectors, start, min(start + 8, count), length)
        }
        // This is torch's orthogonal_, except that the gain is the one that RWKV's trainers use, which is larger for
        // tall matrices.
        let scale = rows > columns ? gain * (Double(rows) / Double(columns)).squareRoot() : gain
        for index in vectors.indices { vectors[index] *= scale }
        return vectors
    }

    /// Returns the value at a row-major index.
    ///
    /// `vectors` must be the result of ``vectors(_:check:)``.
    func value(at place: Int, in vectors: [Double]?) -> Double {
        guard let vectors else { return value(at: place) }
        let (rows, columns) = (shape[0], shape[1])
        return rows > columns ? vectors[place % columns * rows + place / columns] : vectors[place]
    }

    /// Returns the value for a channel, computed with a formula that does not need vectors.
    private func value(at channel: Int) -> Double {
        let count = Double(max(elementCount - 1, 1))
        let ratio = layerCount > 1 ? Double(place.layer ?? 0) / Double(layerCount - 1) : 0
        let fraction = Double(channel) / count
        let center = Double(headSize - 1) / 2
        let inHead = headSize > 1 ? (Double(channel % headSize) - center) / center : 0
        let zigzag = inHead * abs(inHead)
        switch initialiser {
        case .constant(let value): return value
        case .orthogonal: return 0
        case .decayRamp: return -7 + 5 * power(fraction, 0.85 + ratio.squareRoot()) + 0.5
        case .decayRampWithHeads: return -6 + 6 * power(fraction, 1 + power(ratio, 0.3)) + 0.5 + 2.5 * zigzag
        case .iclrRamp: return -0.19 + 0.3 * zigzag + 0.4 * (fraction - 0.5)
        case .finchDecayRamp: return -6 + 5 * power(fraction, 0.7 + 1.3 * ratio)
        case .uniform(let bound): return bound * SplitMix64(seed: seed, name: name).uniform(after: channel)
        case .linear:
            return SplitMix64(seed: seed, name: name).uniform(after: channel) / Double(shape.last ?? 1).squareRoot()
        case .shiftRamp(let exponent): return 1 - shiftPower(channel, exponent)
        case .keyShiftRamp: return 1 - (shiftPower(channel, 0.9) + 0.4 * ratio)
        case .valueShiftRamp: return 1 - (shiftPower(channel, 0.4) + 0.6 * ratio)
        }
    }

    /// Returns (n / A) ^ (exponent (1 - l / L)).
    private func shiftPower(_ channel: Int, _ exponent: Double) -> Double {
        let rest = 1 - Double(place.layer ?? 0) / Double(max(layerCount, 1))
        return power(Double(channel) / Double(elementCount), exponent * rest)
    }

    /// Returns base ^ exponent for a non-negative base.
    private func power(_ base: Double, _ exponent: Double) -> Double {
        base == 0 ? 0 : rwkv_exp(exponent * rwkv_log(base))
    }
}

/// A generator of normally distributed numbers that uses the polar method (Marsaglia and Bray 1964).
private struct NormalGenerator {
    private var numbers: SplitMix64
    private var spare: Double?

    init(seed: Int, name: String) { numbers = SplitMix64(seed: seed, name: name) }

    mutating func next() -> Double {
        if let value = spare {
            spare = nil
            return value
        }
        while true {
            let (x, y) = (numbers.uniform(), numbers.uniform())
            let square = x * x + y * y
            guard square > 0, square < 1 else { continue }
            let factor = (-2 * rwkv_log(square) / square).squareRoot()
            spare = y * factor
            return x * factor
        }
    }
}
