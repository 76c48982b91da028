import CheckpointJSON

/// Finds names by their bytes among those of a text that somebody else keeps.
///
/// Four bytes a slot, at most half of the slots taken. Hashes are keyed by chance for each process, so that no file can bring
/// names that collide.
struct NameTable: Sendable {
    /// Identifier + 1; zero is an empty slot.
    private var slots: [UInt32]

    /// A table for up to `capacity` names.
    init(capacity: Int) {
        var size = 8
        while size < capacity * 2 { size *= 2 }
        slots = Array(repeating: 0, count: size)
    }

    /// Adds the name with this identifier; gives the identifier already there, and adds nothing, when there is one.
    ///
    /// `range` gives where in `text` an identifier's name stands.
    mutating func insert(_ id: UInt32, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        let slot = slot(for: text[range(id)], text: text, range: range)
        guard slots[slot] == 0 else { return slots[slot] - 1 }
        slots[slot] = id + 1
        return nil
    }

    /// The identifier of `name`.
    func find(_ name: ArraySlice<UInt8>, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        let slot = slot(for: name, text: text, range: range)
        return slots[slot] == 0 ? nil : slots[slot] - 1
    }

    /// The slot that holds `name`, or the empty one where it belongs.
    @inline(__always)
    private func slot(for name: ArraySlice<UInt8>, text: [UInt8], range: (UInt32) -> Range<Int>) -> Int {
        var hasher = Hasher()
        name.withUnsafeBytes { hasher.combine(bytes: $0) }
        var slot = hasher.finalize() & (slots.count - 1)
        while slots[slot] != 0 {
            let other = text[range(slots[slot] - 1)]
            if other.count == name.count, other.elementsEqual(name) { return slot }
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
