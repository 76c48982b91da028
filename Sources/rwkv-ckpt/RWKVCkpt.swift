import ArgumentParser
import CheckpointJSON
import RWKVNumerics

@main
struct RWKVCkpt: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rwkv-ckpt",
        abstract:
            "Inspects, compares, converts, runs and verifies model checkpoints without executing code in them, and plans and distils RWKV-7 students of transformers.",
        usage: """
            rwkv-ckpt inspect model.safetensors
            rwkv-ckpt inspect Qwen3-8B --filter '*layers.0.*' --stats
            rwkv-ckpt diff model.pth model.safetensors --values
            rwkv-ckpt plan Qwen3-8B --target hxa079 --gqa-layers 6
            rwkv-ckpt convert Qwen3-8B --plan plan.json -o student
            rwkv-ckpt logits student --tokens-file tokens.json -o logits.safetensors
            rwkv-ckpt verify Qwen3-8B student --report
            rwkv-ckpt distill Qwen3-0.6B student --stage 1 --tokens-file text.u32 --steps 140 -o aligned
            rwkv-ckpt bench forward student
            rwkv-ckpt <command> --help
            """,
        version: CommandLine.arguments.contains("--version") ? versionText : version,
        subcommands: [
            Inspect.self, Diff.self, Plan.self, Convert.self, Logits.self, Verify.self, Distill.self, Bench.self,
        ])

    /// The tool's version.
    static let version = "0.1.0"

    /// The version, the instruction set of the kernels, and the library for matrix products; loads OpenBLAS.
    private static var versionText: String {
        let kernels = Kernels<Float>(.fast, threads: 1)
        let instructionSet =
            switch InstructionSet.best {
            case .avx512: "AVX-512"
            case .avx2: "AVX2"
            case .baseline: "baseline"
            }
        let product = kernels.map { [$0.product.description, $0.openBLASFailure].compactMap(\.self) } ?? []
        return "\(version) (\(instructionSet))\nmatrix products: \(product.joined(separator: "; ").printable())"
    }
}
