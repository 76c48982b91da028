import CheckpointJSON

/// A hash table that finds names by their bytes; the caller keeps the text that contains the names.
///
/// A slot takes four bytes, and at most half of the slots are in use. Hashes use a per-process random key, so names
/// cannot be crafted to collide.
struct NameTable: Sendable {
    /// Identifiers plus one; zero marks an empty slot.
    private var slots: [UInt32]

    /// Returns the memory that a table for up to `capacity` names takes, in bytes.
    static func byteCount(capacity: Int) -> Int { slotCount(capacity: capacity) * MemoryLayout<UInt32>.stride }

    /// The memory that the table takes, in bytes.
    var byteCount: Int { slots.count * MemoryLayout<UInt32>.stride }

    /// Creates an empty table for up to `capacity` names.
    init(capacity: Int) {
        slots = Array(repeating: 0, count: Self.slotCount(capacity: capacity))
    }

    private static func slotCount(capacity: Int) -> Int {
        var count = 8
        while count < capacity * 2 { count *= 2 }
        return count
    }

    /// Adds the name with identifier `id`; if the name is already there, only returns its identifier.
    ///
    /// `range` maps an identifier to the range of its name in `text`.
    mutating func insert(_ id: UInt32, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        insert(id, name: { text[range($0)] })
    }

    /// Adds the name that `name` returns for `id`; if the name is already there, only returns its identifier.
    @inline(__always)
    mutating func insert(_ id: UInt32, name: (UInt32) -> ArraySlice<UInt8>) -> UInt32? {
        let slot = slot(for: name(id), name: name)
        guard slots[slot] == 0 else { return slots[slot] - 1 }
        slots[slot] = id + 1
        return nil
    }

    /// Returns the identifier of `name`; nil if the name is not in the table.
    func find(_ name: ArraySlice<UInt8>, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        let slot = slot(for: name, name: { text[range($0)] })
        return slots[slot] == 0 ? nil : slots[slot] - 1
    }

    /// Returns the slot that holds `wanted`, or the empty slot where it belongs.
    @inline(__always)
    private func slot(for wanted: ArraySlice<UInt8>, name: (UInt32) -> ArraySlice<UInt8>) -> Int {
        var hasher = Hasher()
        wanted.withUnsafeBytes { hasher.combine(bytes: $0) }
        var slot = hasher.finalize() & (slots.count - 1)
        while slots[slot] != 0 {
            let other = name(slots[slot] - 1)
            if other.count == wanted.count, other.elementsEqual(wanted) { return slot }
            slot = (slot + 1) & (slots.count - 1)
        }
        return slot
    }
}

extension [UInt8] {
    /// Replaces the escaped form of `string` with its text, which is never longer, and returns the range of the text.
    mutating func unescape(_ string: JSONString) -> Range<Int> {
        let decoded = string.decoded(from: span)
        let range = string.range.lowerBound..<string.range.lowerBound + decoded.count
        for (place, byte) in zip(range, decoded) { self[place] = byte }
        return range
    }
}
