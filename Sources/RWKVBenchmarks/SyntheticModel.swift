public import Bytes
import CRWKVKernels
public import CheckpointFiles
public import ModelFamilies
import RWKVInference
import RWKVNumerics

/// Models with random weights, which run as fast as trained models of the same size.
public enum SyntheticModel {
    /// Writes a model with random weights to a safetensors file.
    ///
    /// - Parameters:
    ///   - description: the description of the model, in which all sizes must be known.
    ///   - dtype: the dtype of all weights: F32, F16 or BF16.
    ///   - path: the path of the file to create. The file must not exist yet.
    ///   - progress: an object that receives the number of bytes written and can cancel the work.
    /// - Throws: `CheckpointError` of category `unsupported` if a size is not known or if the kernels do not support
    ///   `dtype`, or of category `cannotCreate`, `inputOutput` or `cancelled`.
    public static func write(
        _ description: ModelDescription, _ dtype: DType, to path: String, progress: WorkProgress
    ) throws(CheckpointError) {
        guard let layout = description.architecture.layouts.first, let element = dtype.kernelElement else {
            throw CheckpointError(
                .unsupported, path: path, "weights must be floating-point numbers", found: dtype.rawValue)
        }
        let cast = rwkv_kernels_for(rwkv_best_instruction_set()).pointee.cast
        var tensors: [OutputTensor] = []
        for tensor in description.tensors {
            guard let shape = tensor.shape, let name = layout.name(of: tensor.role, layer: tensor.layer),
                let output = try? OutputTensor(name: name, dtype: dtype, shape: layout.stored(shape, of: tensor.role))
            else { throw CheckpointError(.unsupported, path: path, "a size of the model is not known") }
            tensors.append(output)
        }
        let byteLayout = try CheckpointByteLayout(tensors, container: .safetensors, name: path)
        let file = try UnfinishedFile(path: path, replaces: false)
        let writer = try CheckpointWriter(byteLayout, into: file, isCompressed: false)
        let total = tensors.reduce(0) { $0 + $1.byteCount }
        let atOnce = 1 << 16
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: atOnce * element.size, alignment: 64)
        defer { buffer.deallocate() }
        var random = SplitMix64(seed: 0)
        for (number, tensor) in tensors.enumerated() {
            var output = try writer.begin(number)
            // Matrix values are as small as they are after initialisation. Vector values are in the range of norm
            // weights and token-shift coefficients.
            let range: ClosedRange<Double> = tensor.shape.count == 2 ? -0.03...0.03 : 0.5...1
            for part in (tensor.byteCount / element.size).parts(of: atOnce) {
                try progress.check(path)
                let values = part.map { _ in
                    range.lowerBound + (range.upperBound - range.lowerBound) * Double(random.next() >> 11) * 0x1p-53
                }
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[0..<part.count * element.size])
                _ = cast?(RWKV_ELEMENT_F64, values, element, buffer.baseAddress, values.count, 0)
                try output.append(bytes)
                progress.advance(by: bytes.count, of: total)
            }
            _ = output.finish()
        }
        try writer.finish()
        try file.commit()
    }
}
