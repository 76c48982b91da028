/// The memory and work that opening a PyTorch file may still take.
///
/// A short pickle can describe any number of tensors, names and paths to them. Everything that is made of it is charged here
/// first, so that parts that are each within their limits cannot together take too much memory or time.
struct PickleBudget {
    private let path: String
    /// Bytes left.
    private(set) var memory: Int
    /// Steps left; a thousand take a few microseconds.
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

    /// Charges for elements that are appended to an array: twice their size, as the array may keep its old buffer while it grows.
    mutating func spend<Element>(elements count: Int = 1, of type: Element.Type) throws(CheckpointError) {
        try spend(memory: 2 * count * MemoryLayout<Element>.stride, work: count)
    }

    /// Returns bytes that were charged for memory that is free again.
    mutating func free(memory bytes: Int) { memory += bytes }

    /// The most bytes per entry of a dictionary: at least a third of its slots are in use, or half are the old buffer's as it
    /// grows.
    static func dictionaryEntry<Key, Value>(_ key: Key.Type, _ value: Value.Type) -> Int {
        4 * MemoryLayout<(Key, Value)>.stride
    }

    /// Bytes that a string of `count` UTF-8 bytes takes outside the value that holds it.
    static func text(_ count: Int) -> Int { count + 48 }
}
