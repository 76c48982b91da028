import CheckpointJSON

/// Finds names by their bytes among those of a text that somebody else keeps.
///
/// Four bytes a slot, at most half of the slots taken. Hashes are keyed by chance for each process, so that no file can bring
/// names that collide.
struct NameTable: Sendable {
    /// Identifier + 1; zero is an empty slot.
    private var slots: [UInt32]

    /// What a table for up to `capacity` names takes in memory.
    static func byteCount(capacity: Int) -> Int { slotCount(capacity: capacity) * MemoryLayout<UInt32>.stride }

    /// What it takes in memory.
    var byteCount: Int { slots.count * MemoryLayout<UInt32>.stride }

    /// A table for up to `capacity` names.
    init(capacity: Int) {
        slots = Array(repeating: 0, count: Self.slotCount(capacity: capacity))
    }

    private static func slotCount(capacity: Int) -> Int {
        var count = 8
        while count < capacity * 2 { count *= 2 }
        return count
    }

    /// Adds the name with this identifier; gives the identifier already there, and adds nothing, when there is one.
    ///
    /// `range` gives where in `text` an identifier's name stands.
    mutating func insert(_ id: UInt32, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        insert(id, name: { text[range($0)] })
    }

    /// Adds the name with this identifier, where `name` gives that of each; gives the identifier already there.
    @inline(__always)
    mutating func insert(_ id: UInt32, name: (UInt32) -> ArraySlice<UInt8>) -> UInt32? {
        let slot = slot(for: name(id), name: name)
        guard slots[slot] == 0 else { return slots[slot] - 1 }
        slots[slot] = id + 1
        return nil
    }

    /// The identifier of `name`.
    func find(_ name: ArraySlice<UInt8>, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        let slot = slot(for: name, name: { text[range($0)] })
        return slots[slot] == 0 ? nil : slots[slot] - 1
    }

    /// The slot that holds `wanted`, or the empty one where it belongs.
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
    /// Puts the text of `string` in place of its escaped form, which is never shorter; gives where it stands now.
    mutating func unescape(_ string: JSONString) -> Range<Int> {
        let decoded = string.decoded(from: span)
        let range = string.range.lowerBound..<string.range.lowerBound + decoded.count
        for (place, byte) in zip(range, decoded) { self[place] = byte }
        return range
    }
}
