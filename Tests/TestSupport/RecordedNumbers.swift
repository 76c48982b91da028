import Bytes
import CheckpointFiles

extension Checkpoint {
    /// Returns the elements of a tensor, whose dtype must correspond to `Number`.
    package func numbers<Number: BitwiseCopyable>(_ name: String) throws -> [Number] {
        guard let tensor = tensor(named: name) else {
            throw CheckpointError(.malformed, path: path, "the fixture lacks a tensor", tensor: name)
        }
        let count = tensor.byteCount / MemoryLayout<Number>.size
        return try [Number](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            var span = MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(buffer))
            try read(tensor, at: 0, into: &span)
            initializedCount = count
        }
    }
}

/// Returns the mean squared difference between values and a reference, divided by the variance of the reference.
package func normalisedError(_ values: some Collection<some BinaryFloatingPoint>, _ reference: [Double]) -> Double {
    let mean = reference.reduce(0, +) / Double(reference.count)
    let squares = zip(values, reference).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    return squares / reference.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
}
