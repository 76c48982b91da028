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

    /// Returns the architecture of the same variant for models in the layout with the given name, or nil if there is
    /// none.
    ///
    /// This is `architecture` itself unless the classes that use its layouts differ in their constants.
    package static func architecture(like architecture: Architecture, inLayout name: String) -> Architecture? {
        ([architecture] + standard.filter { $0.name == architecture.name }).first { other in
            other.layouts.contains { $0.name == name }
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
