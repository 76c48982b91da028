import Foundation
import TestSupport
import Testing

/// What README shows as the tool's output is its output.
@Suite struct ReadmeTests {
    @Test func showsWhatTheBinaryPrints() throws {
        let readme = try String(contentsOf: Repository.root.appending(path: "README.md"), encoding: .utf8)
        let blocks = readme.components(separatedBy: "```console\n").dropFirst().compactMap {
            $0.components(separatedBy: "```").first
        }
        var checked = 0
        // Somewhere else, as some commands write.
        try withTemporaryDirectory { directory in
            try FileManager.default.createSymbolicLink(
                at: directory.appending(path: "fixtures"),
                withDestinationURL: Repository.root.appending(path: "fixtures"))
            for block in blocks {
                for session in block.components(separatedBy: "$ rwkv-ckpt ").dropFirst() {
                    let lines = session.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
                    let arguments = lines[0].split(separator: " ").map { $0.trimmingCharacters(in: ["'"]) }
                    let output = try CommandLineTool.run(arguments, in: directory)
                    // Warnings come in front of what they are about, errors behind it.
                    let shown = [output.err + output.out, output.out + output.err]
                    #expect(lines[1] == "…\n" || shown.contains(String(lines[1])), "rwkv-ckpt \(lines[0])")
                    checked += 1
                }
            }
        }
        #expect(checked >= 8)
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
        let line = try #require(registry.split(separator: "\n").first { $0.contains("let standard") })
        #expect(readme.contains("+" + line + "\n"))
    }
}
