import Bytes

/// A view of a file's elements that can have any strides, such as a transposed, sliced or expanded tensor.
struct StridedView: Sendable, Equatable {
    /// The number of stored elements along each dimension, outermost first.
    var shape: [Int]
    /// The distance between consecutive elements along each dimension, in stored elements; never negative.
    var strides: [Int]
    /// The size of a stored element in bytes.
    var elementSize: Int
    /// The offset of the first element in the file, in bytes.
    var start: Int
    /// The offsets, within an element, of the bytes whose sign bit is flipped on reading.
    ///
    /// They implement torch's lazy negation and conjugation.
    var signBytes: [Int] = []

    /// The size of the view's elements when stored contiguously, in bytes.
    var byteCount: Int { shape.reduce(elementSize, *) }

    /// The range of bytes in the file from the first element to the last.
    var byteRange: Range<Int> {
        guard byteCount > 0 else { return start..<start }
        let last = zip(shape, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 }
        return start..<start + (last + 1) * elementSize
    }

    /// Whether the elements are contiguous in row-major order and have no sign bits to flip.
    var isContiguous: Bool {
        guard signBytes.isEmpty else { return false }
        var expected = 1
        for (size, stride) in zip(shape, strides).reversed() where size != 1 {
            guard stride == expected || byteCount == 0 else { return false }
            expected *= size
        }
        return true
    }

    /// Fills `buffer` with the bytes of the elements in row-major order, starting at `offset`.
    ///
    /// `offset` and the buffer's size must be multiples of ``elementSize``.
    func read(
        from source: any ByteSource, at offset: Int, into buffer: inout MutableRawSpan
    ) throws(CheckpointError) {
        precondition(offset % elementSize == 0 && buffer.byteCount % elementSize == 0, "not whole elements")
        let gather = Gather(view: self, source: source)
        let elements = offset / elementSize..<(offset + buffer.byteCount) / elementSize
        try gather.fill(&buffer, elements: elements, dimension: 0, count: shape.reduce(1, *), from: start, at: 0)
        guard !signBytes.isEmpty else { return }
        for element in stride(from: 0, to: buffer.byteCount, by: elementSize) {
            for byte in signBytes {
                let old = buffer.unsafeLoad(fromByteOffset: element + byte, as: UInt8.self)
                buffer.storeBytes(of: old ^ 0x80, toByteOffset: element + byte, as: UInt8.self)
            }
        }
    }
}

/// A reader that copies scattered elements into row-major order, by reading stretches of the file that contain enough
/// of the elements.
private struct Gather {
    /// The maximum number of bytes to read at once.
    private static let stretchSize = 1 << 18
    /// A stretch longer than ``smallStretch`` is split unless at least one in this many of its bytes is needed.
    private static let sparseness = 16
    /// The length up to which a stretch is never split, in bytes.
    private static let smallStretch = 1 << 12

    let view: StridedView
    let source: any ByteSource

    /// Copies a range of elements into the buffer, starting at index `target`.
    ///
    /// The range refers to a part of the tensor: its dimensions from `dimension` inwards, which contain `count`
    /// elements in total. The part begins at byte `place` of the file, and its elements are numbered in row-major
    /// order.
    func fill(
        _ buffer: inout MutableRawSpan, elements: Range<Int>, dimension: Int, count: Int, from place: Int,
        at target: Int
    ) throws(CheckpointError) {
        guard !elements.isEmpty else { return }
        guard dimension < view.shape.count else {
            return try copy(Box(sizes: [], strides: [], targetStrides: []), &buffer, from: place, at: target)
        }
        let inner = count / view.shape[dimension]
        let step = view.strides[dimension] * view.elementSize
        let (row, end) = (elements.lowerBound / inner, elements.upperBound / inner)
        let firstWhole = elements.lowerBound % inner == 0 ? row : row + 1
        if firstWhole > end {
            // All elements are within one row.
            return try fill(
                &buffer, elements: elements.lowerBound - row * inner..<elements.upperBound - row * inner,
                dimension: dimension + 1, count: inner, from: place + row * step, at: target)
        }
        let whole = firstWhole..<end
        var target = target
        let head = whole.lowerBound * inner - elements.lowerBound
        if head > 0 {
            try fill(
                &buffer, elements: inner - head..<inner, dimension: dimension + 1, count: inner,
                from: place + (whole.lowerBound - 1) * step, at: target)
            target += head
        }
        if !whole.isEmpty {
            var box = Box(sizes: [whole.count], strides: [view.strides[dimension]], targetStrides: [inner])
            var targetStride = inner
            for next in (dimension + 1)..<view.shape.count {
                targetStride /= view.shape[next]
                box.sizes.append(view.shape[next])
                box.strides.append(view.strides[next])
                box.targetStrides.append(targetStride)
            }
            try copy(box, &buffer, from: place + whole.lowerBound * step, at: target)
            target += whole.count * inner
        }
        try fill(
            &buffer, elements: 0..<elements.upperBound - whole.upperBound * inner, dimension: dimension + 1,
            count: inner, from: place + whole.upperBound * step, at: target)
    }

    /// A grid of elements, with its size in each dimension and its strides in the file and in the buffer, all in
    /// elements.
    private struct Box {
        var sizes: [Int]
        var strides: [Int]
        var targetStrides: [Int]
    }

    /// Copies a grid of elements from byte `place` of the file to element `target` of the buffer.
    ///
    /// If the elements are spread too widely in the file, splits the grid in half and copies each half.
    private func copy(
        _ box: Box, _ buffer: inout MutableRawSpan, from place: Int, at target: Int
    ) throws(CheckpointError) {
        let size = view.elementSize
        let wanted = box.sizes.reduce(size, *)
        let extents = zip(box.sizes, box.strides).map { ($0 - 1) * $1 }
        let spread = (extents.reduce(0, +) + 1) * size
        if spread > Self.smallStretch, spread > min(Self.stretchSize, wanted * Self.sparseness),
            let widest = extents.indices.max(by: { extents[$0] < extents[$1] })
        {
            let half = box.sizes[widest] / 2
            var first = box
            var second = box
            first.sizes[widest] = half
            second.sizes[widest] -= half
            try copy(first, &buffer, from: place, at: target)
            return try copy(
                second, &buffer, from: place + half * box.strides[widest] * size,
                at: target + half * box.targetStrides[widest])
        }
        let stretch = try source.bytes(place..<place + spread)

        // One counter per dimension; the last one changes fastest.
        var counters = box.sizes.map { _ in 0 }
        var from = 0
        var to = target
        while true {
            for byte in 0..<size {
                buffer.storeBytes(of: stretch[from * size + byte], toByteOffset: to * size + byte, as: UInt8.self)
            }
            var dimension = box.sizes.count - 1
            while dimension >= 0 {
                from += box.strides[dimension]
                to += box.targetStrides[dimension]
                counters[dimension] += 1
                if counters[dimension] < box.sizes[dimension] { break }
                from -= counters[dimension] * box.strides[dimension]
                to -= counters[dimension] * box.targetStrides[dimension]
                counters[dimension] = 0
                dimension -= 1
            }
            if dimension < 0 { return }
        }
    }
}
