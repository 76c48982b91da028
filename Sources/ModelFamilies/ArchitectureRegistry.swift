import CheckpointJSON

/// The architectures that are known.
public enum ArchitectureRegistry {
    /// All of them; a new one is added here, and nowhere else.
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
        .cxa076,
        .cxa076r,
        .cxa079,
    ]

    /// The architecture that a plan can aim at under this name.
    public static func target(named name: String) -> Architecture? {
        standard.first { $0.conversion != nil && $0.variants.contains { ByteString($0) == ByteString(name) } }
    }

    /// The names of all targets.
    public static var targetNames: [String] {
        standard.filter { $0.conversion != nil }.flatMap(\.variants)
    }
}
