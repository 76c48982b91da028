import Foundation
import TestSupport
import Testing

/// The output that README shows is the tool's output.
@Suite struct ReadmeTests {
    @Test func showsWhatTheBinaryPrints() throws {
        let readme = try String(contentsOf: Repository.root.appending(path: "README.md"), encoding: .utf8)
        let blocks = readme.components(separatedBy: "```console\n").dropFirst().compactMap {
            $0.components(separatedBy: "```").first
        }
        var checked = 0
        // In a temporary directory, because some commands write files.
        try withTemporaryDirectory { directory in
            try FileManager.default.createSymbolicLink(
                at: directory.appending(path: "fixtures"),
                withDestinationURL: Repository.root.appending(path: "fixtures"))
            for block in blocks {
                for session in block.components(separatedBy: "$ rwkv-ckpt ").dropFirst() {
                    let lines = session.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
                    let arguments = lines[0].split(separator: " ").map { $0.trimmingCharacters(in: ["'"]) }
                    let output = try CommandLineTool.run(arguments, in: directory)
                    // Warnings come before the output that they concern, errors after it.
                    let shown = [output.err + output.out, output.out + output.err]
                    let isShown =
                        lines[1] == "…\n" && output.status == 0
                        || (block.contains("$ rwkv-ckpt distill")
                            ? isAlike(shown[0], String(lines[1])) : shown.contains(String(lines[1])))
                    #expect(isShown, "rwkv-ckpt \(lines[0])\n\(shown[0])")
                    checked += 1
                }
            }
        }
        #expect(checked >= 8)
    }

    /// Whether two texts differ only in measured numbers: rounding and speed depend on the processor.
    private func isAlike(_ text: String, _ other: String) -> Bool {
        func lines(_ text: String) -> [[Substring]] { text.split(separator: "\n").map { $0.split(separator: " ") } }
        let (lines, others) = (lines(text), lines(other))
        return lines.count == others.count
            && zip(lines, others).allSatisfy { line, other in
                line.count == other.count
                    && zip(line, other).allSatisfy { word, other in
                        if word == other || line.contains("tokens/s") || word.allSatisfy({ $0 == "█" }) { return true }
                        let numbers = [word, other].compactMap { Double($0.replacing(",", with: "")) }
                        return numbers.count == 2 && abs(numbers[0] - numbers[1]) <= 0.25 * abs(numbers[1]) + 0.01
                    }
            }
    }

    @Test func showsTheWholeFileOfAFamily() throws {
        let readme = try String(contentsOf: Repository.root.appending(path: "README.md"), encoding: .utf8)
        let path = "Sources/ModelFamilies/Families/Qwen3.swift"
        let file = try String(contentsOf: Repository.root.appending(path: path), encoding: .utf8)
        let added = file.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map { "+" + $0 + "\n" }
            .joined()
        #expect(readme.contains("+++ b/\(path)\n" + added + "---"))
        let registry = try String(
            contentsOf: Repository.root.appending(path: "Sources/ModelFamilies/ArchitectureRegistry.swift"),
            encoding: .utf8)
        #expect(registry.contains("\n        .qwen2,\n        .qwen3,\n"))
        #expect(readme.contains("\n         .qwen2,\n+        .qwen3,\n"))
    }
}
