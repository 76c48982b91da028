extension Architecture {
    /// Qwen2 and Qwen2.5, whose biases stand in no config.json. (transformers, models/qwen2.)
    public static let qwen2 = Architecture(
        family: "qwen2",
        configurationNames: ["qwen2"],
        norm: .rms,
        feedForward: .swiGLU,
        attention: Attention(inputBias: .always),
        layouts: [.huggingFace],
        assumedEpsilon: 1e-6,
        assumedTheta: 10000,
        isTeacher: true)
}
