import Bytes

/// The memory and work that remain for opening a PyTorch file.
///
/// A short pickle can describe an enormous number of tensors, names and paths. Everything that is built from the pickle
/// is therefore charged to this budget first. Otherwise, structures that each stay within their own limits could
/// together take too much memory or time.
struct PickleBudget {
    private let path: String
    /// The remaining memory, in bytes.
    private(set) var memory: Int
    /// The remaining work, in steps; a thousand steps take a few microseconds.
    private var work: Int

    init(path: String, limits: ReadLimits) {
        self.path = path
        memory = limits.pickleMemoryBytes
        work = 20 * limits.pickleBytes
    }

    /// Charges memory and work to the budget before they are used.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if the budget is exceeded.
    mutating func spend(memory bytes: Int = 0, work steps: Int = 0) throws(CheckpointError) {
        memory -= bytes
        work -= steps
        guard memory >= 0, work >= 0 else {
            throw CheckpointError(
                .malformed, path: path,
                "the pickle describes more tensors, or more paths to them, than the limit allows")
        }
    }

    /// Charges for elements that will be appended to an array.
    ///
    /// The charge is twice the size of the elements, because the capacity of an array doubles when it grows.
    mutating func spend<Element>(elements count: Int = 1, of type: Element.Type) throws(CheckpointError) {
        try spend(memory: 2 * count * MemoryLayout<Element>.stride, work: count)
    }

    /// Returns freed memory to the budget.
    mutating func free(memory bytes: Int) { memory += bytes }

    /// Returns the maximum memory per dictionary entry, in bytes.
    ///
    /// A dictionary doubles its slots when three quarters of them are in use. While it grows, the old and the new
    /// buffer together have four slots per entry.
    static func dictionaryEntry<Key, Value>(_ key: Key.Type, _ value: Value.Type) -> Int {
        4 * MemoryLayout<(Key, Value)>.stride
    }

    /// Returns the heap memory that a string of `count` UTF-8 bytes takes, in bytes.
    static func text(_ count: Int) -> Int { count + 48 }
}
