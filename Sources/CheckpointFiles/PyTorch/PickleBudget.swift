/// The memory and work that opening a PyTorch file may still take.
///
/// A short pickle can describe any number of tensors, names and paths to them. Everything built from the pickle is
/// charged here first, so that parts that are each within their limits cannot together take too much memory or time.
struct PickleBudget {
    private let path: String
    /// The number of bytes left.
    private(set) var memory: Int
    /// The number of steps left; a thousand take a few microseconds.
    private var work: Int

    init(path: String, limits: ReadLimits) {
        self.path = path
        memory = limits.pickleMemoryBytes
        work = 20 * limits.pickleBytes
    }

    /// Charges bytes and steps before they are used.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` if too few are left.
    mutating func spend(memory bytes: Int = 0, work steps: Int = 0) throws(CheckpointError) {
        memory -= bytes
        work -= steps
        guard memory >= 0, work >= 0 else {
            throw CheckpointError(
                .malformed, path: path,
                "the pickle describes more tensors, or more paths to them, than the limit allows")
        }
    }

    /// Charges for elements appended to an array: twice their size, because a growing array may keep its old buffer.
    mutating func spend<Element>(elements count: Int = 1, of type: Element.Type) throws(CheckpointError) {
        try spend(memory: 2 * count * MemoryLayout<Element>.stride, work: count)
    }

    /// Credits bytes that were charged for memory that has been freed.
    mutating func free(memory bytes: Int) { memory += bytes }

    /// Returns the maximum number of bytes per dictionary entry: at least a third of the slots are in use, or half of
    /// them belong to the old buffer while the dictionary grows.
    static func dictionaryEntry<Key, Value>(_ key: Key.Type, _ value: Value.Type) -> Int {
        4 * MemoryLayout<(Key, Value)>.stride
    }

    /// Returns the number of bytes that a string of `count` UTF-8 bytes takes outside the value that holds it.
    static func text(_ count: Int) -> Int { count + 48 }
}
