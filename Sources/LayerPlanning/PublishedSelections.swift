/// The attention layers of a published hybrid model.
public struct PublishedSelection: Sendable {
    /// The name to pass to `--published`.
    public let name: String
    /// The number of layers in the model.
    public let layerCount: Int
    /// The attention layers, in ascending order.
    public let layers: [Int]

    /// The selections in RWKVInside's configurations and model cards, for all target architectures.
    public static let all: [PublishedSelection] = [
        .init("reka-flash-3.1", 44, [8, 15, 22, 29, 36, 43]),
        .init("qwen3-0.6b", 28, [12, 16, 21, 24, 25]),
        .init("qwen3-0.6b-l5", 28, [7, 12, 17, 22, 27]),
        .init("qwen3-0.6b-base", 28, [16, 19, 21, 24, 25]),
        .init("qwen3-1.7b", 28, [17, 19, 21, 23, 25, 27]),
        .init("qwen3-1.7b-l6", 28, [7, 11, 15, 19, 23, 27]),
        .init("qwen3-4b", 36, [15, 20, 24, 29, 33, 34]),
        .init("qwen3-4b-l9", 36, [3, 7, 11, 15, 19, 23, 27, 31, 35]),
        .init("qwen3-8b", 36, [7, 15, 23, 31, 33, 35]),
        .init("qwen3-8b-07c", 36, [15, 20, 26, 29, 33, 34]),
        .init("qwen3-14b", 40, [7, 14, 21, 28, 35, 39]),
        .init("qwen3-30b-a3b-l8", 48, [5, 11, 17, 23, 29, 35, 41, 47]),
        .init("qwen3-30b-a3b", 48, [6, 14, 18, 26, 30, 38, 45, 47]),
        .init("qwen3-25b-a3b-reap", 48, [6, 14, 18, 26, 30, 36, 42, 47]),
        .init("qwen3-32b", 64, [5, 11, 17, 23, 28, 33, 38, 43, 48, 53, 58, 63]),
        .init("glm-4-32b", 61, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]),
        .init("devstral-small-2507", 40, [4, 9, 14, 19, 23, 27, 31, 35, 39]),
        .init("magistral-small-2509", 40, [4, 9, 14, 19, 24, 29, 34, 39]),
    ]

    private init(_ name: String, _ layerCount: Int, _ layers: [Int]) {
        self.name = name
        self.layerCount = layerCount
        self.layers = layers
    }
}
