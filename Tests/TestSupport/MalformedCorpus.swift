import Foundation

/// fixtures/malformed/corpus.json: inputs, and what must become of them.
package struct MalformedCorpus: Decodable, Sendable {
    package let cases: [Case]

    /// One input.
    package struct Case: Decodable, Sendable, CustomStringConvertible {
        package let name: String
        /// `refused` or `accepted`.
        package let verdict: String
        /// What the error, or a warning, must say.
        package let words: [String]
        /// Below fixtures/malformed.
        package let path: String?
        /// The exit status, where it is not that of malformed input.
        package let exit: Int?
        /// What the reference does with it: `refused` or `accepted`.
        package let reference: String?
        package let recipe: Recipe?

        package var description: String { name }

        /// Runs `body` with the path of the input, which is made for the occasion if it is a recipe.
        package func withInput<Result>(_ body: (String) throws -> Result) throws -> Result {
            if let path { return try body(Repository.fixture("malformed/" + path)) }
            return try withTemporaryDirectory { directory in
                let file = directory.appending(path: name)
                try (recipe?.bytes() ?? Data()).write(to: file)
                return try body(file.path(percentEncoded: false))
            }
        }
    }

    /// An input too large to keep.
    package struct Recipe: Decodable, Sendable {
        let prefix, unit, suffix: String
        let count: Int
        let framed: Bool

        func bytes() -> Data {
            var text = Array(prefix.utf8)
            text.reserveCapacity(prefix.utf8.count + count * (unit.utf8.count + 7) + suffix.utf8.count + 8)
            let parts = unit.components(separatedBy: "{:07}").map { Array($0.utf8) }
            for number in 0..<count {
                text.append(contentsOf: parts[0])
                for part in parts.dropFirst() {
                    var divisor = 1_000_000
                    while divisor > 0 {
                        text.append(UInt8(ascii: "0") + UInt8(number / divisor % 10))
                        divisor /= 10
                    }
                    text.append(contentsOf: part)
                }
            }
            text.append(contentsOf: suffix.utf8)
            let length = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Data($0) }
            return framed ? length + text : Data(text)
        }
    }

    /// Reads the document.
    package static func load() throws -> MalformedCorpus {
        try Repository.json("malformed/corpus.json", as: MalformedCorpus.self)
    }
}
