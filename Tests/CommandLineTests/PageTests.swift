import Foundation
import TestSupport
import Testing

/// Tests that the sessions in README.md and docs/ match the output of the tool.
///
/// A block fenced as `console` is a session. The lines that begin with `$ rwkv-ckpt` are run in order, and each must be
/// followed by its output. All sessions on a page share a directory, which contains a link to fixtures/. A line `…`
/// matches any number of lines. A block fenced as `console not-run` shows a session that cannot be run in tests. If the
/// environment variable RWKV_CKPT_REWRITE_PAGES is set, outputs without `…` are written to the pages instead of being
/// compared.
@Suite struct PageTests {
    static let pages: [String] = {
        let docs = Repository.root.appending(path: "docs").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: docs)) ?? []
        return ["README.md"] + names.filter { $0.hasSuffix(".md") }.sorted().map { "docs/" + $0 }
    }()

    private static let rewrites = ProcessInfo.processInfo.environment["RWKV_CKPT_REWRITE_PAGES"] != nil

    @Test("shows what the tool prints", arguments: pages)
    func showsWhatTheToolPrints(page: String) throws {
        let file = Repository.root.appending(path: page)
        let text = try String(contentsOf: file, encoding: .utf8)
        var parts = text.components(separatedBy: "```console\n")
        try withTemporaryDirectory { directory in
            try FileManager.default.createSymbolicLink(
                at: directory.appending(path: "fixtures"),
                withDestinationURL: Repository.root.appending(path: "fixtures"))
            for part in parts.indices.dropFirst() {
                let block = try #require(parts[part].components(separatedBy: "```").first)
                let sessions = block.components(separatedBy: "$ rwkv-ckpt ")
                #expect(sessions[0].isEmpty && sessions.count > 1, "a block that runs nothing: \(block)")
                let made = try sessions.dropFirst().map { try self.shown($0, in: directory) }
                if Self.rewrites {
                    let rest = parts[part].dropFirst(block.count)
                    parts[part] = made.map { "$ rwkv-ckpt " + $0 }.joined() + rest
                }
            }
        }
        if Self.rewrites {
            try parts.joined(separator: "```console\n").write(to: file, atomically: true, encoding: .utf8)
        }
    }

    /// Runs a command and compares its output with the expected output.
    ///
    /// The argument is the command followed by its expected output. The result is the text to show in the page.
    private func shown(_ session: String, in directory: URL) throws -> String {
        let lines = session.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
        let (command, expected) = (String(lines[0]), String(lines[1]))
        let arguments = command.split(separator: " ").map { $0.trimmingCharacters(in: ["'"]) }
        let output = try CommandLineTool.run(arguments, in: directory)
        // Warnings precede the output, whereas errors follow it.
        let printed = output.status == 0 ? output.err + output.out : output.out + output.err
        let isMeasured = ["distill", "bench"].contains(arguments.first)
        if Self.rewrites, !expected.contains("…") { return command + "\n" + printed }
        #expect(
            matches(printed.split(separator: "\n")[...], expected.split(separator: "\n")[...], isMeasured),
            "rwkv-ckpt \(command)\n\(printed)")
        return session
    }

    /// Returns whether lines match the expected lines, in which `…` matches any number of lines.
    private func matches(_ lines: ArraySlice<Substring>, _ expected: ArraySlice<Substring>, _ isMeasured: Bool) -> Bool
    {
        guard let first = expected.first else { return lines.isEmpty }
        if first == "…" {
            return (lines.startIndex...lines.endIndex).contains {
                matches(lines[$0...], expected.dropFirst(), isMeasured)
            }
        }
        guard let line = lines.first, isMeasured ? isAlike(line, first) : line == first else { return false }
        return matches(lines.dropFirst(), expected.dropFirst(), isMeasured)
    }

    /// Returns whether two lines differ only in measured numbers.
    ///
    /// Times can differ by any amount, and other numbers by up to a quarter.
    private func isAlike(_ line: Substring, _ other: Substring) -> Bool {
        let (words, others) = (line.split(separator: " "), other.split(separator: " "))
        return words.count == others.count
            && zip(words, others).allSatisfy { word, other in
                if word == other || words.contains("tokens/s") || word.allSatisfy({ $0 == "█" }) { return true }
                let numbers = [word, other].compactMap { Double($0.replacing(",", with: "")) }
                return numbers.count == 2 && abs(numbers[0] - numbers[1]) <= 0.25 * abs(numbers[1]) + 0.01
            }
    }

    @Test("few blocks are not run")
    func fewBlocksAreNotRun() throws {
        let marked = try Self.pages.reduce(0) { count, page in
            let text = try String(contentsOf: Repository.root.appending(path: page), encoding: .utf8)
            return count + text.components(separatedBy: "```console not-run\n").count - 1
        }
        #expect(marked <= 10)
    }

    /// Links to other pages and to files in the repository must have an existing target.
    @Test("links lead to files that exist", arguments: pages)
    func linksLeadSomewhere(page: String) throws {
        let file = Repository.root.appending(path: page)
        let text = try String(contentsOf: file, encoding: .utf8)
        for match in text.matches(of: #/\]\(([^)#:]+)(?:#[^)]*)?\)/#) {
            let target = file.deletingLastPathComponent().appending(path: String(match.1))
            #expect(FileManager.default.fileExists(atPath: target.path), "\(page): \(match.1)")
        }
    }

    @Test("README is short")
    func readmeIsShort() throws {
        let readme = try Data(contentsOf: Repository.root.appending(path: "README.md"))
        #expect(readme.count <= 10_000)
    }

    /// docs/adding-a-family.md must show the complete source file of an existing family as its example.
    @Test("shows the whole file of a family")
    func showsTheWholeFileOfAFamily() throws {
        let page = try String(contentsOf: Repository.root.appending(path: "docs/adding-a-family.md"), encoding: .utf8)
        let path = "Sources/ModelFamilies/Families/Qwen3.swift"
        let file = try String(contentsOf: Repository.root.appending(path: path), encoding: .utf8)
        #expect(page.contains("```swift\n" + file + "```"))
    }
}
