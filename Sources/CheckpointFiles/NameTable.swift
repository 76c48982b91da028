import CheckpointJSON

/// A hash table that maps names, compared byte by byte, to identifiers.
///
/// The caller stores the text of the names.
///
/// A slot takes four bytes, and at most half of the slots are in use. The hash function has a random key for each
/// process, so names cannot be crafted to collide.
struct NameTable: Sendable {
    /// The identifiers plus one; zero marks an empty slot.
    private var slots: [UInt32]

    /// Returns the size in bytes of a table for up to `capacity` names.
    static func byteCount(capacity: Int) -> Int { slotCount(capacity: capacity) * MemoryLayout<UInt32>.stride }

    /// The size of the table in bytes.
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

    /// Inserts the name with identifier `id`.
    ///
    /// If the table already contains the name, returns its identifier without inserting anything; otherwise returns
    /// nil.
    ///
    /// `range` maps an identifier to the range of its name in `text`.
    mutating func insert(_ id: UInt32, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        insert(id, name: { text[range($0)] })
    }

    /// Inserts the name that `name` returns for `id`.
    ///
    /// If the table already contains the name, returns its identifier without inserting anything; otherwise returns
    /// nil.
    @inline(__always)
    mutating func insert(_ id: UInt32, name: (UInt32) -> ArraySlice<UInt8>) -> UInt32? {
        let slot = slot(for: name(id), name: name)
        guard slots[slot] == 0 else { return slots[slot] - 1 }
        slots[slot] = id + 1
        return nil
    }

    /// Returns the identifier of `name`; nil if the table does not contain the name.
    func find(_ name: ArraySlice<UInt8>, text: [UInt8], range: (UInt32) -> Range<Int>) -> UInt32? {
        let slot = slot(for: name, name: { text[range($0)] })
        return slots[slot] == 0 ? nil : slots[slot] - 1
    }

    /// Returns the slot that contains `wanted`, or the empty slot where it can be inserted.
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
    /// Decodes `string` in place and returns the range of the decoded text, which is never longer than the escaped
    /// form.
    mutating func unescape(_ string: JSONString) -> Range<Int> {
        let decoded = string.decoded(from: span)
        let range = string.range.lowerBound..<string.range.lowerBound + decoded.count
        for (place, byte) in zip(range, decoded) { self[place] = byte }
        return range
    }
}
