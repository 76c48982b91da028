import CRWKVKernels

// Unlike a C library's, these functions give the same bits on every machine.

/// e^x.
public func exponential(_ x: Double) -> Double { rwkv_exp(x) }

/// The natural logarithm of x.
public func logarithm(_ x: Double) -> Double { rwkv_log(x) }

/// Sine and cosine of x radians.
public func sineAndCosine(_ x: Double) -> (sine: Double, cosine: Double) {
    var result = (sine: 0.0, cosine: 0.0)
    rwkv_sine_cosine(x, &result.sine, &result.cosine)
    return result
}
