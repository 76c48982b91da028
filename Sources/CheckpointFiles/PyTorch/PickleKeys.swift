extension PickleGraph {
    /// The reserved hash of a value that cannot be a key.
    private static let unhashable = Int.min
    /// The reserved hash of a value that can be a key but cannot be compared with other values of its family.
    private static let incomparable = Int.min + 1

    /// Checks that all dictionary keys and set members are hashable and distinct.
    ///
    /// Python never writes a container with equal keys. When it reads one, it keeps only the last value for the key.
    /// Each value is hashed only once, even if the pickle refers to it many times.
    func checkKeys() throws(PickleFailure) {
        let hasKeys = (0..<nodeCount).contains { number in
            var cursor = keyCursor(at: value(numbered: number))
            return next(&cursor) != nil
        }
        guard hasKeys else { return }
        let bytesPerHash = MemoryLayout<Int>.stride
        guard nodeCount * bytesPerHash <= availableBytes else { throw .outOfMemory }
        /// The hash of each value, indexed by the value's number.
        var known: [Int] = []
        known.reserveCapacity(nodeCount)
        for number in 0..<nodeCount { known.append(hash(value(numbered: number), known)) }
        var hashes: [Int] = []
        for number in 0..<nodeCount {
            let container = value(numbered: number)
            var cursor = keyCursor(at: container)
            hashes.removeAll(keepingCapacity: true)
            // For each family, the number of keys, and 1 if any of these keys is incomparable.
            var (counts, isIncomparable) = (SIMD4<Int>(), SIMD4<Int>())
            while let (key, value) = next(&cursor) {
                let hash = hash(key ?? value, known)
                guard hash != Self.unhashable else {
                    throw .other("a key of a dictionary, or a member of a set, is not hashable")
                }
                if let family = family(key ?? value) {
                    counts[family] += 1
                    if hash == Self.incomparable { isIncomparable[family] = 1 }
                }
                guard hash != Self.incomparable else { continue }
                hashes.append(hash)
                // A growing array can take twice the memory of its elements.
                guard (nodeCount + hashes.count * 2) * bytesPerHash <= availableBytes else { throw .outOfMemory }
            }
            guard (counts &* isIncomparable).max() <= 1 else {
                throw .other("cannot tell whether two keys of a dictionary or set are equal")
            }
            guard hashes.count > 1 else { continue }
            hashes.sort()
            for (hash, next) in zip(hashes, hashes.dropFirst()) where hash == next {
                throw .other(twice(hash, in: container, known))
            }
        }
    }

    /// Returns the error message for a hash that two keys of a container share.
    private func twice(_ repeated: Int, in container: PickleValue, _ known: [Int]) -> String {
        var cursor = keyCursor(at: container)
        while let (key, value) = next(&cursor) {
            if let range = textRange(key ?? value), hash(key ?? value, known) == repeated {
                return "a dictionary or set has the key \"\(excerpt(pickle[range]))\" twice"
            }
        }
        return "a dictionary or set has a key twice"
    }

    /// Returns the index of a value's family, or nil if the value does not belong to a family.
    ///
    /// A family is a group of values, such as text, in which some values cannot be compared with the others.
    private func family(_ value: PickleValue) -> Int? {
        switch content(value) {
        case .text, .undecodedText: 0
        case .longInteger: 1
        case .float(let float): float.longInteger == nil ? nil : 1
        case .tuple: 2
        case .frozenSet: 3
        default: nil
        }
    }

    /// Returns the hash of a value as a key, or one of the two reserved hashes.
    ///
    /// Equal keys have equal hashes, and other keys have different hashes unless they collide by accident. `known`
    /// contains the hashes of all values with smaller numbers, which include the parts of this value.
    private func hash(_ value: PickleValue, _ known: [Int]) -> Int {
        if let number = number(of: value), number < known.count { return known[number] }
        var hasher = Hasher()
        switch content(value) {
        case .none: hasher.combine(0)
        // Equal numbers are equal keys, even if their types differ.
        case .bool(let bool): combine(bool ? 1 : 0, &hasher)
        case .integer(let integer): combine(integer, &hasher)
        case .float(let float):
            if let integer = Int(exactly: float) {
                combine(integer, &hasher)
            } else if let integer = float.longInteger {
                combine(8, integer[...], &hasher)
            } else if float.isNaN {
                // Two NaNs are equal keys only if they are the same object.
                hasher.combine(6)
                hasher.combine(value)
            } else {
                hasher.combine(2)
                hasher.combine(float)
            }
        case .text(let range): combine(3, pickle[range], &hasher)
        case .bytes(let range): combine(4, pickle[range], &hasher)
        case .global(let number):
            combine(5, pickle[globals[number].module], &hasher)
            combine(5, pickle[globals[number].name], &hasher)
        case .object(let object):
            guard !makesUnhashable(object.callable) else { return Self.unhashable }
            hasher.combine(6)
            hasher.combine(value)
        case .persistent:
            hasher.combine(6)
            hasher.combine(value)
        case .tuple: return hash(ofParts: value, isOrdered: true, known)
        case .frozenSet: return hash(ofParts: value, isOrdered: false, known)
        case .longInteger(let range?): combine(8, pickle[range], &hasher)
        case .longInteger(nil), .undecodedText: return Self.incomparable
        case .byteArray, .list, .dictionary, .set: return Self.unhashable
        }
        return hasher.finalize()
    }

    private func hash(ofParts value: PickleValue, isOrdered: Bool, _ known: [Int]) -> Int {
        var hasher = Hasher()
        var isComparable = true
        var sum = 0
        var cursor = cursor(at: value)
        while let part = next(&cursor)?.value {
            let hash = hash(part, known)
            guard hash != Self.unhashable else { return hash }
            isComparable = isComparable && hash != Self.incomparable
            if isOrdered { hasher.combine(hash) } else { sum &+= hash }
        }
        hasher.combine(isOrdered ? 7 : 9)
        hasher.combine(sum)
        hasher.combine(cursor.count)
        return isComparable ? hasher.finalize() : Self.incomparable
    }

    private func combine(_ integer: Int, _ hasher: inout Hasher) {
        hasher.combine(1)
        hasher.combine(integer)
    }

    private func combine(_ kind: Int, _ bytes: ArraySlice<UInt8>, _ hasher: inout Hasher) {
        hasher.combine(kind)
        hasher.combine(bytes.count)
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

extension Double {
    /// The shortest little-endian two's-complement form of an integer that does not fit into 64 bits, or nil for other
    /// numbers.
    fileprivate var longInteger: [UInt8]? {
        guard isFinite, magnitude >= 0x1p63, self != -0x1p63 else { return nil }
        let shift = Int(exponent) - 52
        let significand = Int64(significandBitPattern | 1 << 52)
        let high = (sign == .minus ? -significand : significand) << (shift % 8)
        var bytes = Array(repeating: 0 as UInt8, count: shift / 8)
        for byte in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: high >> (8 * byte))) }
        // Drop bytes that only repeat the sign.
        while bytes[bytes.count - 1] == (bytes[bytes.count - 2] < 0x80 ? 0 : 0xFF) { bytes.removeLast() }
        return bytes
    }
}
