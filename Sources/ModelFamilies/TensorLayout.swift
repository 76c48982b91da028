import CheckpointFiles
import CheckpointJSON

/// How a kind of checkpoint names and stores the tensor of each role.
public struct TensorLayout: Sendable {
    /// How a tensor's stored shape differs from its role's shape.
    public enum Transform: Sendable {
        case none
        /// A matrix with its dimensions swapped.
        case transposed
        /// A vector as [1, 1, n].
        case leadingOnes
    }

    /// The name that `--layout` takes.
    public let name: String
    /// The name of each role's tensor, with `#` for the layer's index.
    public let names: [TensorRole: String]
    /// Groups of roles whose matrices are the rows of one tensor, in this order.
    public let fused: [[TensorRole]]
    /// The transforms of roles whose tensors are not stored in the role's shape.
    public let transforms: [TensorRole: Transform]
    /// Names of tensors that may be in such files but are not part of the model, with `#` for a number.
    public let ignoredNames: [String]
    /// Whether files hold only trained tensors, so that any others may be missing.
    public let holdsTrainedOnly: Bool
    /// Whether the head is stored even if it equals the embedding.
    public let alwaysStoresHead: Bool
    /// Whether the first time-mixing layer may have value and key residuals, which nothing uses.
    public let mayHoldUnusedResiduals: Bool

    /// All layouts, with the names that most families share.
    public static let all: [TensorLayout] = [.huggingFace, .official, .fla, .rwkvInfer, .rwkvInside]

    private let roles: [NamePattern: [TensorRole]]

    /// Creates a layout from the name of each role's tensor.
    public init(
        _ name: String, names: [TensorRole: String], fused: [[TensorRole]] = [],
        transforms: [TensorRole: Transform] = [:], ignoredNames: [String] = [], holdsTrainedOnly: Bool = false,
        alwaysStoresHead: Bool = false, mayHoldUnusedResiduals: Bool = true
    ) {
        self.name = name
        self.names = names
        self.fused = fused
        self.transforms = transforms
        self.ignoredNames = ignoredNames
        self.holdsTrainedOnly = holdsTrainedOnly
        self.alwaysStoresHead = alwaysStoresHead
        self.mayHoldUnusedResiduals = mayHoldUnusedResiduals
        roles = Dictionary(
            names.map { (NamePattern($0.value), [$0.key]) }, uniquingKeysWith: +)
    }

    /// Returns this layout with other names for some roles, and with these groups of roles fused.
    func naming(_ other: [TensorRole: String], fused: [[TensorRole]] = []) -> TensorLayout {
        TensorLayout(
            name, names: names.merging(other) { $1 }, fused: fused, transforms: transforms, ignoredNames: ignoredNames,
            holdsTrainedOnly: holdsTrainedOnly, alwaysStoresHead: alwaysStoresHead,
            mayHoldUnusedResiduals: mayHoldUnusedResiduals)
    }

    /// Returns this student layout with a teacher's names for all but token mixers; nil if it cannot express them.
    func withBody(of teacher: TensorLayout) -> TensorLayout? {
        let mixers = Set(Attention.allRoles + TimeMix7.allRoles)
        let body = teacher.names.filter { !mixers.contains($0.key) && $0.value != Self.huggingFace.names[$0.key] }
        guard !body.isEmpty, let root = bodyRoot else { return body.isEmpty ? self : nil }
        return naming(
            body.mapValues { root + $0 }, fused: teacher.fused.filter { $0.allSatisfy { !mixers.contains($0) } })
    }

    /// The prefix that this layout adds to transformers' names of body tensors; nil if the layout has other names.
    private var bodyRoot: String? {
        guard let name = names[.embedding], let end = Self.huggingFace.names[.embedding] else { return nil }
        return name.dropping(suffix: end).map { String($0) }
    }

    /// Returns the roles fused into one tensor with a role, itself included, in row order; nil if it is not fused.
    package func fusion(of role: TensorRole) -> [TensorRole]? { fused.first { $0.contains(role) } }

    /// Returns the rows that a role occupies in its tensor; nil for all rows, or if a size is not known.
    public func rows(of role: TensorRole, _ dimensions: Dimensions) -> Range<Int>? {
        guard let fusion = fusion(of: role), let place = fusion.firstIndex(of: role),
            let heights = dimensions.shape(fusion.map { $0.shape[0] })
        else { return nil }
        let start = heights[..<place].reduce(0) { $0.adding(clamped: $1) }
        return start..<start.adding(clamped: heights[place])
    }

    /// Returns the possible places of a tensor with this name; the kind of its layer decides between them.
    public func places(ofTensor name: String) -> [TensorPlace] {
        let (pattern, number) = NamePattern.split(name)
        return roles(of: pattern).map { TensorPlace(role: $0, layer: $0.isPerLayer ? number : nil) }
    }

    /// Returns whether a tensor with this name may occur in such files but is not part of the model.
    public func isIgnored(_ name: String) -> Bool {
        let pattern = NamePattern.split(name).pattern
        return ignoredNames.contains { NamePattern($0) == pattern }
    }

    /// Returns the possible roles of a pattern; the kind of the layer decides between them.
    func roles(of pattern: NamePattern) -> [TensorRole] { roles[pattern] ?? [] }

    /// Returns the name of a role's tensor in a layer; nil if the layout does not have the role.
    public func name(of role: TensorRole, layer: Int?) -> String? {
        guard let name = names[role], let layer, let mark = name.utf8.firstIndex(of: UInt8(ascii: "#")) else {
            return names[role]
        }
        return name[..<mark] + "\(layer)" + name[name.utf8.index(after: mark)...]
    }

    /// Returns the stored shape of a role's tensor, given the role's shape.
    public func stored(_ shape: [Int], of role: TensorRole) -> [Int] {
        switch transforms[role] ?? .none {
        case .none: shape
        case .transposed: shape.reversed()
        case .leadingOnes: [1, 1] + shape
        }
    }

    /// Returns whether a role's tensor is stored with rows and columns swapped.
    public func isTransposed(_ role: TensorRole) -> Bool {
        if case .transposed = transforms[role] ?? .none { true } else { false }
    }

    /// Returns the shape of a role's tensor, given its stored shape; nil if the number of dimensions is wrong.
    public func sizes(ofStored shape: [Int], _ role: TensorRole) -> [Int]? {
        // Some files of every layout store vectors as [1, 1, n].
        if role.shape.count == 1 { return [shape.reduce(1) { $0.multiplied(clamped: $1) }] }
        guard shape.count == role.shape.count else { return nil }
        return isTransposed(role) ? shape.reversed() : shape
    }
}

/// A tensor's name with its first number, usually the layer's, replaced by `#`.
struct NamePattern: Hashable, Sendable {
    let bytes: ByteString
    /// The name with `#` in place of the number.
    var text: String { bytes.text }

    /// Creates the pattern of a name; a name that already contains `#` is its own pattern.
    init(_ name: String) {
        self = Self.split(name).pattern
    }

    private init(text: String) { bytes = ByteString(text) }

    /// Splits a name into its pattern and its first numeric part, which is nil if there is none.
    static func split(_ name: String) -> (pattern: NamePattern, number: Int?) {
        var start = name.utf8.startIndex
        while start < name.utf8.endIndex {
            let end = name.utf8[start...].firstIndex(of: UInt8(ascii: ".")) ?? name.utf8.endIndex
            let part = name.utf8[start..<end]
            if !part.isEmpty, part.count <= 6, part.count == 1 || part.first != UInt8(ascii: "0"),
                part.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 })
            {
                let number = part.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
                return (NamePattern(text: name[..<start] + "#" + name[end...]), number)
            }
            guard end < name.utf8.endIndex, !part.elementsEqual("#".utf8) else { break }
            start = name.utf8.index(after: end)
        }
        return (NamePattern(text: name), nil)
    }
}

extension Collection<NamePattern> {
    /// Returns the first pattern, in byte order, with one of these suffixes; nil if there is none.
    func first(endingIn ends: [String]) -> String? {
        filter { pattern in ends.contains { pattern.text.dropping(suffix: $0) != nil } }.map(\.bytes).min()?.text
    }
}
