/// Elements of a file that are not one behind the other in row-major order: a transposed, sliced or expanded tensor.
struct StridedView: Sendable, Equatable {
    /// The dimensions, outermost first, in stored elements.
    var shape: [Int]
    /// How many stored elements apart neighbours in each dimension are; none is negative.
    var strides: [Int]
    /// Bytes of a stored element.
    var elementSize: Int
    /// Where in the file the first element is.
    var start: Int
    /// The byte of each element's parts in which the sign bit is to be flipped, for what torch negates or conjugates on reading.
    var signBytes: [Int] = []

    /// How many bytes the elements take in row-major order.
    var byteCount: Int { shape.reduce(elementSize, *) }

    /// Where the elements are, from the first to the last.
    var byteRange: Range<Int> {
        guard byteCount > 0 else { return start..<start }
        let last = zip(shape, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 }
        return start..<start + (last + 1) * elementSize
    }

    /// Whether the elements are one behind the other in row-major order.
    var isContiguous: Bool {
        guard signBytes.isEmpty else { return false }
        var expected = 1
        for (size, stride) in zip(shape, strides).reversed() where size != 1 {
            guard stride == expected || byteCount == 0 else { return false }
            expected *= size
        }
        return true
    }

    /// Fills `buffer` with the bytes from `offset` on that the elements have in row-major order.
    ///
    /// Both must be whole elements.
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

/// Copies elements from where they are to where they belong, reading stretches of the file that hold enough of them.
private struct Gather {
    /// The longest stretch that is read at once.
    private static let stretchSize = 1 << 18
    /// A longer stretch is only read where at least one byte in so many is wanted.
    private static let sparseness = 16
    /// A stretch that is not worth splitting.
    private static let smallStretch = 1 << 12

    let view: StridedView
    let source: any ByteSource

    /// Fills in the elements of a range of row-major numbers, relative to the part of the tensor below `dimension` that has `count`
    /// elements and begins at byte `place` of the file.
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
            // Within one row.
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

    /// Elements in a grid: how many in each dimension, and how many elements apart in the file and in the buffer.
    private struct Box {
        var sizes: [Int]
        var strides: [Int]
        var targetStrides: [Int]
    }

    /// Copies a grid of elements, in parts where it is spread too far; `target` counts elements.
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

        // One counter for each dimension, the last the fastest.
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
