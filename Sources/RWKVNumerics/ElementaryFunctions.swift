import CRWKVKernels

// Unlike the C library's functions, these functions return the same bits on every machine.

/// Returns e^x.
public func exponential(_ x: Double) -> Double { rwkv_exp(x) }

/// Returns the natural logarithm of x.
public func logarithm(_ x: Double) -> Double { rwkv_log(x) }

/// Returns the sine and cosine of x radians.
public func sineAndCosine(_ x: Double) -> (sine: Double, cosine: Double) {
    var result = (sine: 0.0, cosine: 0.0)
    rwkv_sine_cosine(x, &result.sine, &result.cosine)
    return result
}
