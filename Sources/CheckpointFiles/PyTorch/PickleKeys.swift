import CheckpointJSON

extension PickleGraph {
    /// What equality with other keys means for a key.
    private enum Key {
        /// Keys are equal where these are.
        case hash(Int)
        /// It can be a key, but whether another is equal is not known.
        case incomparable
        case unhashable
        case tooLong
    }

    /// What a value costs beside its bytes, of which a step hashes one.
    private static let stepsPerValue = 8
    /// What a byte of the pickle pays for.
    private static let stepsPerByte = 20

    /// The most values of a tuple that is a key, with those of the tuples in it.
    private static let tupleLimit = 1000

    /// Calls of these give what is not hashable.
    private static let unhashable: Set<String> = [
        "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "collections.deque",
        "builtins.list", "builtins.dict", "builtins.set", "builtins.bytearray",
        "__builtin__.list", "__builtin__.dict", "__builtin__.set", "__builtin__.bytearray",
    ]

    /// Checks that all keys of dictionaries and members of sets can be that, and that no two of one container are equal.
    ///
    /// Python keeps the value of the last of equal keys, and writes no pickle that has such. The check takes a bounded number of steps
    /// for each byte of the pickle, however often the pickle refers to the same key.
    func checkKeys() throws(PickleFailure) {
        var steps = Self.stepsPerByte * pickle.count
        var hashes: [Int] = []
        for index in 0..<nodeCount {
            let container = value(numbered: index)
            var cursor = keyCursor(at: container)
            hashes.removeAll(keepingCapacity: true)
            var count = 0
            var isComparable = true
            while let (key, value) = next(&cursor) {
                count += 1
                switch self.key(key ?? value, &steps) {
                case .hash(let hash): hashes.append(hash)
                case .incomparable: isComparable = false
                case .unhashable: throw .other("a key of a dictionary, or a member of a set, is not hashable")
                case .tooLong:
                    throw .other(
                        "a key of a dictionary, or a member of a set, is a tuple of too many values",
                        expected: "\(Self.tupleLimit) values at most")
                }
                // A growing array takes twice its elements.
                guard steps >= 0, hashes.count * 2 * MemoryLayout<Int>.stride <= availableBytes else {
                    throw .outOfMemory
                }
            }
            guard count > 1 else { continue }
            guard isComparable else {
                throw .other("a key cannot be compared with the others of its container")
            }
            hashes.sort()
            for (hash, next) in zip(hashes, hashes.dropFirst()) where hash == next {
                throw .other(twice(hash, in: container))
            }
        }
    }

    /// Says which key a container has twice.
    private func twice(_ hash: Int, in container: PickleValue) -> String {
        var cursor = keyCursor(at: container)
        var steps = Int.max
        while let (key, value) = next(&cursor) {
            if let range = textRange(key ?? value), case .hash(let other) = self.key(key ?? value, &steps),
                other == hash
            {
                return "a dictionary or set has the key \"\(excerpt(pickle[range]))\" twice"
            }
        }
        return "a dictionary or set has a key twice"
    }

    /// What a value is as a key.
    private func key(_ value: PickleValue, _ steps: inout Int) -> Key {
        var hasher = Hasher()
        var isComparable = true
        var stack = [value]
        var count = 0
        while let value = stack.popLast() {
            count += 1
            steps -= Self.stepsPerValue
            switch content(value) {
            case .none: hasher.combine(0)
            // Numbers are equal whatever their type.
            case .bool(let bool): combine(bool ? 1 : 0, &hasher)
            case .integer(let integer): combine(integer, &hasher)
            case .float(let float):
                if let integer = Int(exactly: float) {
                    combine(integer, &hasher)
                } else if float.magnitude >= 0x1p63, float.isFinite {
                    isComparable = false
                } else {
                    hasher.combine(2)
                    hasher.combine(float)
                }
            case .text(let range): combine(3, range, &hasher, &steps)
            case .bytes(let range): combine(4, range, &hasher, &steps)
            case .global(let number):
                combine(5, globals[number].module, &hasher, &steps)
                combine(5, globals[number].name, &hasher, &steps)
            case .object(let object):
                if case .global(let number) = content(object.callable), Self.unhashable.contains(name(ofGlobal: number))
                {
                    return .unhashable
                }
                hasher.combine(6)
                hasher.combine(value)
            case .persistent:
                hasher.combine(6)
                hasher.combine(value)
            case .tuple(let elements):
                guard count + stack.count + elements.count <= Self.tupleLimit else { return .tooLong }
                hasher.combine(7)
                hasher.combine(elements.count)
                stack += elements
            case .longInteger(let range?): combine(8, range, &hasher, &steps)
            case .longInteger(nil), .undecodedText, .frozenSet: isComparable = false
            case .byteArray, .list, .dictionary, .set: return .unhashable
            }
        }
        return isComparable ? .hash(hasher.finalize()) : .incomparable
    }

    private func combine(_ integer: Int, _ hasher: inout Hasher) {
        hasher.combine(1)
        hasher.combine(integer)
    }

    private func combine(_ kind: Int, _ range: Range<Int>, _ hasher: inout Hasher, _ steps: inout Int) {
        steps -= range.count
        guard steps >= 0 else { return }
        hasher.combine(kind)
        hasher.combine(range.count)
        pickle[range].withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}
