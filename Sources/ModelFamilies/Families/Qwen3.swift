extension Architecture {
    /// Qwen3: norms on each head of queries and keys, and an explicit head size. (transformers, models/qwen3.)
    public static let qwen3 = Architecture(
        family: "qwen3",
        configurationNames: ["qwen3"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu),
            refine: qwenWindows,
            keys: qwenWindowKeys,
            assumedEpsilon: 1e-6,
            assumedTheta: 10000,
            assumedSizes: [.headSize: 128]),
        attention: Attention(
            inputBias: .configured(key: "attention_bias"), outputBias: .configured(key: "attention_bias"),
            headNorm: .always),
        layouts: [.huggingFace],
        isTeacher: true)
}
