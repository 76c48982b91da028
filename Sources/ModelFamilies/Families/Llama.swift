extension Architecture {
    /// Llama 2 and 3, and what has its shape: Reka Flash 3.1. (transformers, models/llama.)
    public static let llama = Architecture(
        family: "llama",
        configurationNames: ["llama"],
        norm: .rms,
        feedForward: .gated(.silu),
        attention: Attention(
            inputBias: .configured(key: "attention_bias"), outputBias: .configured(key: "attention_bias")),
        layouts: [.huggingFace],
        assumedEpsilon: 1e-6,
        assumedTheta: 10000,
        lookAlikes: ["mistral", "gemma"],
        isTeacher: true)
}
