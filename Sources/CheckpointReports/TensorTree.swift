import CheckpointFiles
import CheckpointJSON

/// A checkpoint's names as a tree, in which numbered parts that repeat stand once.
///
/// Each number between dots becomes `#`. What stands below a `#` is said once, with the numbers at which it occurs where these are
/// not the numbers of its surroundings: `only 0`, `not 0`. One name with different dtypes or shapes is one line for each.
struct TensorTree {
    /// More dots than this belong to the last part of the name.
    private static let maximumDepth = 16
    /// More kinds of names than this make no tree that anybody reads.
    private static let maximumLeaves = 20_000
    private static let maximumSiblings = 60

    private struct LeafKey: Hashable {
        var dtype: DType
        var shape: [Int]

        var text: String { dtype.rawValue + shapeText(shape) }
    }

    private final class Node {
        /// By the bytes of the label: strings would take different spellings of a character as one.
        var children: [[UInt8]: Node] = [:]
        var leaves: [LeafKey: Leaf] = [:]
        /// How many `#` lead here.
        let level: Int

        init(level: Int) { self.level = level }
    }

    private struct Leaf {
        var count = 0
        var byteCount = 0
        /// For each `#` in the name, the numbers that stand there.
        var numbers: [IndexSet]
    }

    private struct Line {
        var label: String
        var note: String
        var dtype = ""
        var shape = ""
        var byteCount: Int
    }

    private let root = Node(level: 0)
    private var leafCount = 0
    /// Whether there were too many kinds of names.
    private(set) var isTooLarge = false

    init(_ tensors: some Sequence<TensorInfo>) {
        for tensor in tensors {
            insert(tensor)
            guard leafCount <= Self.maximumLeaves else {
                isTooLarge = true
                return
            }
        }
    }

    func write(to output: inout ByteOutput) {
        var lines: [Line] = []
        _ = append(root, label: "", around: [], prefix: "", connector: "", to: &lines)
        var table = TextTable([("", .left), ("", .left), ("", .left), ("", .left), ("", .right)])
        for line in lines.dropFirst() {
            for cell in [line.label, line.note, line.dtype, line.shape, byteText(line.byteCount)] { table.append(cell) }
        }
        table.write(to: &output)
    }

    // MARK: Building

    private mutating func insert(_ tensor: TensorInfo) {
        var node = root
        var numbers: [Int] = []
        let parts = tensor.name.utf8.split(
            separator: UInt8(ascii: "."), maxSplits: Self.maximumDepth - 1, omittingEmptySubsequences: false)
        for part in parts {
            var label = Array(part)
            if (1...9).contains(part.count), part.allSatisfy({ $0 &- UInt8(ascii: "0") < 10 }),
                let number = Int(String(decoding: part, as: UTF8.self))
            {
                numbers.append(number)
                label = [UInt8(ascii: "#")]
            }
            let child = node.children[label] ?? Node(level: numbers.count)
            node.children[label] = child
            node = child
        }
        let key = LeafKey(dtype: tensor.dtype, shape: tensor.shape)
        if node.leaves[key] == nil { leafCount += 1 }
        var leaf =
            node.leaves.removeValue(forKey: key) ?? Leaf(numbers: Array(repeating: IndexSet(), count: numbers.count))
        leaf.count += 1
        leaf.byteCount += tensor.byteCount
        for (level, number) in numbers.enumerated() { leaf.numbers[level].insert(number) }
        node.leaves[key] = leaf
    }

    // MARK: Printing

    /// Appends the lines of `node`, whose surroundings occur at the numbers `around`; gives the bytes below it.
    private func append(
        _ start: Node, label startLabel: String, around: [IndexSet], prefix: String, connector: String,
        to lines: inout [Line]
    ) -> Int {
        // Parts without a branch between them stand on one line, but each `#` has a line for what it repeats.
        var node = start
        var label = startLabel
        while node !== root, node.leaves.isEmpty, node.children.count == 1, let (name, child) = node.children.first,
            !label.hasSuffix("#")
        {
            label += "." + String(decoding: name, as: UTF8.self)
            node = child
        }
        let own = numbers(below: node, levels: node.level)
        if node.children.isEmpty {
            // One name with several dtypes or shapes: the most common first.
            let leaves = node.leaves.sorted { ($1.value.count, $0.key.text) < ($0.value.count, $1.key.text) }
            for (index, (key, leaf)) in leaves.enumerated() {
                let connector = index < leaves.count - 1 && connector == "└─ " ? "├─ " : connector
                lines.append(
                    Line(
                        label: prefix + connector + label.printable(limit: 80),
                        note: note(for: leaf.numbers, count: leaf.count, label: label, in: around),
                        dtype: key.dtype.rawValue, shape: shapeText(key.shape), byteCount: leaf.byteCount))
            }
            return leaves.reduce(0) { $0 + $1.value.byteCount }
        }
        let place = lines.count
        lines.append(
            Line(
                label: prefix + connector + label.printable(limit: 80),
                note: note(for: own, count: nil, label: label, in: around), byteCount: 0))
        var byteCount = 0
        let below = prefix + (connector.isEmpty ? "" : connector == "└─ " ? "   " : "│  ")
        // A name that is a tensor's and the beginning of others' has a child of its own without a label.
        var children = node.children.map { ($0.key, $0.value) }
        if !node.leaves.isEmpty {
            let own = Node(level: node.level)
            own.leaves = node.leaves
            children.append((Array("(itself)".utf8), own))
        }
        children.sort { $0.0.lexicographicallyPrecedes($1.0) }
        for (index, (name, child)) in children.enumerated() {
            let isLast = index == children.count - 1
            var scratch: [Line] = []
            byteCount += append(
                child, label: String(decoding: name, as: UTF8.self), around: own, prefix: below,
                connector: isLast ? "└─ " : "├─ ", to: &scratch)
            if children.count <= Self.maximumSiblings || index < Self.maximumSiblings - 1 {
                lines += scratch
            } else if isLast {
                let hidden = children.count - Self.maximumSiblings + 1
                lines.append(
                    Line(label: below + "└─ … \(countText(hidden)) more", note: "", byteCount: byteCount))
            }
        }
        lines[place].byteCount = byteCount
        return byteCount
    }

    /// For each of the first `levels` `#` in the names below `node`, the numbers that stand there.
    private func numbers(below node: Node, levels: Int) -> [IndexSet] {
        var all = Array(repeating: IndexSet(), count: levels)
        func join(_ numbers: [IndexSet]) {
            for level in 0..<levels { all[level].formUnion(numbers[level]) }
        }
        for leaf in node.leaves.values { join(leaf.numbers) }
        for child in node.children.values { join(numbers(below: child, levels: levels)) }
        return all
    }

    /// How often something occurs and at which numbers, as far as its surroundings do not say so already.
    private func note(for own: [IndexSet], count: Int?, label: String, in surroundings: [IndexSet]) -> String {
        var notes: [String] = []
        if label.hasSuffix("#"), own.count > surroundings.count {
            let numbers = own[surroundings.count]
            notes.append("× \(numbers.count)  \(numbers.text)")
        }
        for (own, around) in zip(own, surroundings) where own != around {
            let missing = around.subtracting(own)
            notes.append(missing.count < own.count ? "not \(missing.text)" : "only \(own.text)")
        }
        let product = own.reduce(1) { $0 * max(1, $1.count) }
        if let count, count < product { notes.append("\(count) of \(product)") }
        return notes.joined(separator: "; ")
    }
}
