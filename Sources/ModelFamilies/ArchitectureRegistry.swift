import Bytes

/// The known architectures.
public enum ArchitectureRegistry {
    /// All known architectures.
    ///
    /// To register a new architecture, add it to this list.
    public static let standard: [Architecture] = [
        .llama,
        .mistral,
        .qwen2,
        .qwen3,
        .phi3,
        .gemma2,
        .gemma3,
        .glm4,
        .rwkv7,
        .rwkv6,
        .rwkv6FLA,
        .rwkv5,
        .cxa076,
        .cxa076r,
        .cxa079,
        .cxa07a,
        .cxa07b,
        .cxa07c,
        .cxa07d,
        .arwkv,
        .arwkvOnePlusGate,
        .radRWKV7,
        .radRWKV6,
    ]

    /// Returns an architecture and the others of its family with the same variant, such as RWKV-6 in the class of
    /// flash-linear-attention.
    ///
    /// Each has its own layouts, and its own constants. A student has its teacher's body, so there are no others.
    package static func architectures(like architecture: Architecture) -> [Architecture] {
        guard !architecture.hasTeachersBody else { return [architecture] }
        return [architecture]
            + standard.filter {
                ($0.family, $0.variant) == (architecture.family, architecture.variant)
                    && $0.layouts[0].names != architecture.layouts[0].names
            }
    }

    /// Returns the conversion target that has a variant of this name, or nil if there is none.
    public static func target(named name: String) -> Architecture? {
        standard.first { $0.conversion != nil && $0.variants.contains { ByteString($0) == ByteString(name) } }
    }

    /// The names of the variants of all architectures.
    public static var variantNames: [String] {
        standard.flatMap(\.variants).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// The names of the variants of all conversion targets.
    public static var targetNames: [String] {
        standard.filter { $0.conversion != nil }.flatMap(\.variants)
    }
}
