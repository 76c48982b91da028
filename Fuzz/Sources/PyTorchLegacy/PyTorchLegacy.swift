@testable import Bytes
@testable import CheckpointFiles
import Fuzzing

/// A fuzz target for the reader of torch's legacy format, including the bytes of the tensors.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            let source = MemorySource(Array(copying: bytes), path: "input")
            var limits = ReadLimits()
            limits.tensors = 10_000
            limits.expandedBytes = 1 << 16
            limits.expandedRatio = 4
            do throws(CheckpointError) {
                check(try PyTorchFile(legacy: source, limits: limits), source)
            } catch {
                requirePrintable(error.description)
                if let offset = error.offset {
                    require((0...source.count).contains(offset), "offset \(offset) of \(source.count)")
                }
            }
        }
    }

    private static func check(_ file: PyTorchFile, _ source: MemorySource) {
        for position in 0..<min(file.tensorCount, 100) {
            let tensor = file.tensor(at: position, file: 0)
            require(file.position(of: file.name(at: position)) == position, "\(tensor) is found elsewhere")
            require(tensor.byteRange.lowerBound >= 0 && tensor.byteRange.upperBound <= source.count, "\(tensor)")
            guard let view = tensor.view, view.byteCount <= 1 << 16 else { continue }
            var bytes = [UInt8](repeating: 0, count: view.byteCount)
            var span = bytes.mutableSpan
            var raw = span.mutableBytes
            do throws(CheckpointError) {
                try view.read(from: source, at: 0, into: &raw)
            } catch { fatalError("\(error)") }
            check(bytes, view, source)
        }
    }

    /// Compares bytes that were read through a view with the bytes in the source at the offset of each element.
    private static func check(_ bytes: [UInt8], _ view: StridedView, _ source: MemorySource) {
        let count = view.shape.reduce(1, *)
        for element in 0..<count {
            var rest = element
            var place = view.start
            for (size, stride) in zip(view.shape, view.strides).reversed() {
                place += rest % size * stride * view.elementSize
                rest /= size
            }
            for byte in 0..<view.elementSize {
                let sign: UInt8 = view.signBytes.contains(byte) ? 0x80 : 0
                guard let expected = try? source.bytes(place + byte..<place + byte + 1)[0] else {
                    fatalError("\(view)")
                }
                require(bytes[element * view.elementSize + byte] == expected ^ sign, "\(view) at \(element)")
            }
        }
    }
}
