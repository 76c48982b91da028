/// What opening a PyTorch file may still cost.
///
/// A pickle of some bytes can ask for any number of tensors, names and ways to them. Whatever is made for it is paid for here first, so
/// that no combination of things that are each within bounds takes more memory, or more time, than all together may.
struct PickleBudget {
    private let path: String
    /// In bytes.
    private(set) var memory: Int
    /// In steps, of which a thousand take some microseconds.
    private var work: Int

    init(path: String, limits: ReadLimits) {
        self.path = path
        memory = limits.pickleMemoryBytes
        work = 20 * limits.pickleBytes
    }

    /// Takes bytes and steps before they are used.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed` when there are not enough left.
    mutating func spend(memory bytes: Int = 0, work steps: Int = 0) throws(CheckpointError) {
        memory -= bytes
        work -= steps
        guard memory >= 0, work >= 0 else {
            throw CheckpointError(
                .malformed, path: path, "the pickle leads to more tensors, or on more ways, than the limit allows")
        }
    }

    /// Takes the bytes of elements that are put into growing arrays: half of what an array has it may be about to leave.
    mutating func spend<Element>(elements count: Int = 1, of type: Element.Type) throws(CheckpointError) {
        try spend(memory: 2 * count * MemoryLayout<Element>.stride, work: count)
    }

    /// Gives back what was taken for what is there no more.
    mutating func free(memory bytes: Int) { memory += bytes }

    /// What an entry of a dictionary may take: a third of the slots or more are in use, or while it grows half of them are another's.
    static func dictionaryEntry<Key, Value>(_ key: Key.Type, _ value: Value.Type) -> Int {
        4 * MemoryLayout<(Key, Value)>.stride
    }

    /// What a text takes that is not within the value that holds it.
    static func text(_ count: Int) -> Int { count + 48 }
}
