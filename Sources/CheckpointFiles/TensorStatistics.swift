package import CRWKVKernels

/// The statistics of a tensor's values.
///
/// The minimum, maximum, mean and standard deviation cover only the finite values, and are computed in double precision
/// for every dtype. They are nil if no value is finite. The mean and standard deviation are also nil if computing them
/// overflows. The same bytes give the same result on every machine and with any number of threads.
public struct TensorStatistics: Sendable, Equatable {
    /// The smallest finite value.
    public var minimum: Double?
    /// The largest finite value.
    public var maximum: Double?
    /// The mean of the finite values.
    public var mean: Double?
    /// The population standard deviation of the finite values, which has a divisor of n.
    public var standardDeviation: Double?
    /// The number of positive and negative zeros.
    public var zeros = 0
    /// The number of NaNs.
    public var nans = 0
    /// The number of positive and negative infinities.
    public var infinities = 0
}

/// The statistics of one part of a tensor, which can be merged with the statistics of the next part.
struct StatisticsPart: Sendable {
    private var finite = 0
    private var zeros = 0
    private var nans = 0
    private var infinities = 0
    private var minimum = Double.infinity
    private var maximum = -Double.infinity
    private var mean = 0.0
    /// The sum of squared deviations from the mean.
    private var squaredDeviations = 0.0

    /// Creates the statistics of `elements`.
    ///
    /// The result is nil for complex dtypes, which have no order, for six-bit dtypes, whose packing is not defined, and
    /// for quantised dtypes, which need a scale.
    init?(_ elements: UnsafeRawBufferPointer, _ dtype: DType, _ kernels: rwkv_kernels) {
        if let element = dtype.kernelElement {
            var result = rwkv_statistics()
            kernels.statistics(element, elements.baseAddress, elements.count * 8 / dtype.bitWidth, &result)
            self.init(result)
        } else if let values = dtype.valuesOfBytes {
            var counts = [UInt64](repeating: 0, count: 256)
            kernels.count_bytes(elements.baseAddress, elements.count, &counts)
            self.init(counts: counts, values: values)
        } else {
            return nil
        }
    }

    private init(_ result: rwkv_statistics) {
        finite = Int(result.finite)
        zeros = Int(result.zeros)
        nans = Int(result.nans)
        infinities = Int(result.infinities)
        guard finite > 0 else { return }
        minimum = result.minimum
        maximum = result.maximum
        let meanDeviation = result.sum / Double(finite)
        mean = result.shift + meanDeviation
        let difference = result.sum_of_squares - result.sum * meanDeviation
        squaredDeviations = difference.isNaN ? .infinity : max(0, difference)
    }

    /// Creates statistics from the number of times that each byte occurs.
    ///
    /// A byte can contain more than one element.
    private init(counts: [UInt64], values: [[Double]]) {
        var sum = 0.0
        for (count, values) in zip(counts, values) where count > 0 {
            for value in values {
                if value.isNaN {
                    nans += Int(count)
                } else if value.isInfinite {
                    infinities += Int(count)
                } else {
                    finite += Int(count)
                    zeros += value == 0 ? Int(count) : 0
                    minimum = min(minimum, value)
                    maximum = max(maximum, value)
                    sum += Double(count) * value
                }
            }
        }
        guard finite > 0 else { return }
        mean = sum / Double(finite)
        for (count, values) in zip(counts, values) where count > 0 {
            for value in values where value.isFinite {
                squaredDeviations += Double(count) * (value - mean) * (value - mean)
            }
        }
    }

    /// Merges the statistics of the next part (Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample
    /// Variance", equation 2.1).
    mutating func append(_ next: StatisticsPart) {
        zeros += next.zeros
        nans += next.nans
        infinities += next.infinities
        guard next.finite > 0 else { return }
        if finite == 0 {
            (mean, squaredDeviations) = (next.mean, next.squaredDeviations)
        } else {
            let total = Double(finite + next.finite)
            let difference = next.mean - mean
            squaredDeviations +=
                next.squaredDeviations + difference * difference * (Double(finite) * Double(next.finite) / total)
            mean += difference * (Double(next.finite) / total)
        }
        finite += next.finite
        minimum = min(minimum, next.minimum)
        maximum = max(maximum, next.maximum)
    }

    var statistics: TensorStatistics {
        var statistics = TensorStatistics(zeros: zeros, nans: nans, infinities: infinities)
        guard finite > 0 else { return statistics }
        statistics.minimum = minimum
        statistics.maximum = maximum
        statistics.mean = mean.isFinite ? mean : nil
        let deviation = (squaredDeviations / Double(finite)).squareRoot()
        statistics.standardDeviation = deviation.isFinite ? deviation : nil
        return statistics
    }
}

extension DType {
    /// The kernels' constant for this dtype; nil if they do not support it.
    package var kernelElement: rwkv_element? {
        switch self {
        case .f64: RWKV_ELEMENT_F64
        case .f32: RWKV_ELEMENT_F32
        case .f16: RWKV_ELEMENT_F16
        case .bf16: RWKV_ELEMENT_BF16
        case .i64: RWKV_ELEMENT_I64
        case .u64: RWKV_ELEMENT_U64
        case .i32: RWKV_ELEMENT_I32
        case .u32: RWKV_ELEMENT_U32
        case .i16: RWKV_ELEMENT_I16
        case .u16: RWKV_ELEMENT_U16
        default: nil
        }
    }
}
