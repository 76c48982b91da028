import Bytes
import CRWKVKernels
import Foundation

/// A corpus of inputs and the results that a reader must produce for them.
///
/// The inputs are described by the files fixtures/malformed*/corpus.json.
package struct MalformedCorpus: Decodable, Sendable {
    package let cases: [Case]

    /// An input in the corpus.
    package struct Case: Decodable, Sendable, CustomStringConvertible {
        package let name: String
        /// The required result: `refused` or `accepted`.
        package let verdict: String
        /// The words that the error or a warning must contain.
        package let words: [String]
        /// The path of the input in ``directory``, or nil if the input is generated from a recipe.
        package let path: String?
        /// The directory of the corpus in fixtures/.
        package private(set) var directory = ""
        /// The exit status, or nil for the exit status of malformed input.
        package let exit: Int?
        /// The result of the reference implementation: `refused` or `accepted`.
        package let reference: String?
        package let recipe: Recipe?

        private enum CodingKeys: CodingKey {
            case name, verdict, words, path, exit, reference, recipe
        }

        package var description: String { name }

        fileprivate func inDirectory(_ directory: String) -> Case {
            var copy = self
            copy.directory = directory
            return copy
        }

        /// Calls a closure with the path of the input.
        ///
        /// If the input is generated from a recipe, it is written to a temporary file.
        package func withInput<Result>(_ body: (String) throws -> Result) throws -> Result {
            if let path { return try body(Repository.fixture(directory + "/" + path)) }
            return try withTemporaryDirectory { directory in
                let file = directory.appending(path: name)
                try (recipe?.bytes() ?? Data()).write(to: file)
                return try body(file.path(percentEncoded: false))
            }
        }
    }

    /// A recipe for an input that is too large to store in the repository.
    ///
    /// The input is either a safetensors header, given as text, or a pickle, given as hexadecimal digits, which is put
    /// in a PyTorch archive.
    package struct Recipe: Decodable, Sendable {
        let prefix, unit, suffix: String
        let count: Int
        /// Whether the safetensors header is preceded by its length, or nil for a pickle.
        let framed: Bool?

        func bytes() -> Data {
            guard let framed else { return archive(pickle: pickle()) }
            let text = header()
            let length = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Data($0) }
            return framed ? length + text : Data(text)
        }

        private func pickle() -> [UInt8] {
            let unit = [UInt8](hexadecimal: unit)
            var bytes = [UInt8](hexadecimal: prefix)
            for _ in 0..<count { bytes += unit }
            return bytes + [UInt8](hexadecimal: suffix)
        }

        private func header() -> [UInt8] {
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
            return text
        }

        /// Returns a PyTorch archive that contains a pickle, a storage of 16 bytes and a version.
        ///
        /// The archive has the same structure as an archive that torch writes, but is not aligned.
        private func archive(pickle: [UInt8]) -> Data {
            var file: [UInt8] = []
            var directory: [UInt8] = []
            let floats: [Float] = [1, 2, 3, 4]
            let records = [
                ("model/data.pkl", pickle), ("model/data/0", floats.withUnsafeBytes { Array($0) }),
                ("model/version", Array("3\n".utf8)),
            ]
            func number(_ value: Int, _ count: Int) -> [UInt8] {
                (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
            }
            for (name, data) in records {
                let checksum = Int(data.withUnsafeBytes { rwkv_crc32(0, $0.baseAddress, $0.count) })
                let sizes =
                    number(checksum, 4) + number(data.count, 4) + number(data.count, 4) + number(name.utf8.count, 2)
                let start = file.count
                file +=
                    Array("PK\u{3}\u{4}".utf8) + number(0, 2) + number(0x800, 2) + number(0, 6) + sizes + number(0, 2)
                file += Array(name.utf8) + data
                directory += Array("PK\u{1}\u{2}".utf8) + number(0, 4) + number(0x800, 2) + number(0, 6) + sizes
                directory += number(0, 12) + number(start, 4) + Array(name.utf8)
            }
            let end =
                Array("PK\u{5}\u{6}".utf8) + number(0, 4) + number(3, 2) + number(3, 2) + number(directory.count, 4)
            return Data(file + directory + end + number(file.count, 4) + number(0, 2))
        }
    }

    /// Reads the corpora of all formats.
    package static func load() throws -> MalformedCorpus {
        MalformedCorpus(
            cases: try ["malformed", "malformed-pytorch", "malformed-zstd"].flatMap { directory in
                try Repository.json(directory + "/corpus.json", as: MalformedCorpus.self).cases.map {
                    $0.inDirectory(directory)
                }
            })
    }
}

extension [UInt8] {
    /// Creates an array from pairs of hexadecimal digits.
    ///
    /// A repeated byte sequence can be abbreviated: `(4e*1000)` is the byte 4e, repeated a thousand times.
    package init(hexadecimal text: String) {
        self = []
        for part in text.split(separator: "(") {
            guard let end = part.firstIndex(of: ")") else {
                append(digits: part)
                continue
            }
            let run = part[..<end].split(separator: "*")
            let unit = [UInt8](hexadecimal: String(run[0]))
            for _ in 0..<(Int(run[1]) ?? 0) { self += unit }
            append(digits: part[part.index(after: end)...])
        }
    }

    private mutating func append(digits: Substring) {
        let digits = Array<UInt8>(digits.utf8)
        for place in stride(from: 0, to: digits.count - 1, by: 2) {
            append(UInt8(String(decoding: digits[place..<place + 2], as: UTF8.self), radix: 16) ?? 0)
        }
    }
}
