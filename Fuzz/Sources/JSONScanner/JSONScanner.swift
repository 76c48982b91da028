@testable import Bytes
import CheckpointJSON
import Fuzzing

/// A fuzz target for the JSON scanner.
///
/// Every input is read twice: once with ``JSONScanner/skipValue()``, and once value by value. Both reads must succeed,
/// or fail at the same offset. ``JSONValue`` must accept the same inputs, except that it can reject duplicate keys and
/// NUL.
@main
enum Target {
    static func main() {
        fuzz { bytes in
            let skipped = outcome(bytes) { scanner throws(MalformedInput) in try scanner.skipValue() }
            let walked = outcome(bytes) { scanner throws(MalformedInput) in try walk(&scanner, bytes, depth: 0) }
            require(skipped == walked, "skipping: \(skipped as Any), walking: \(walked as Any)")
            do throws(MalformedInput) {
                let value = try JSONValue(document: Array(copying: bytes))
                require(skipped == nil, "\(value) was read from invalid JSON")
            } catch {
                require(skipped != nil || error.problem.contains("twice") || error.problem.contains("NUL"), "\(error)")
            }
        }
    }

    /// Reads a document with `value`, and returns the offset of the error, or nil if there is none.
    private static func outcome(
        _ bytes: Span<UInt8>, _ value: (inout JSONScanner) throws(MalformedInput) -> Void
    ) -> Int? {
        var scanner = JSONScanner(bytes)
        var failure: MalformedInput?
        do throws(MalformedInput) {
            try value(&scanner)
            try scanner.end()
        } catch {
            failure = error
        }
        require((0...bytes.count).contains(scanner.position), "position \(scanner.position) of \(bytes.count)")
        require(failure != nil || scanner.position == bytes.count, "the end is at \(scanner.position)")
        if let failure { require((0...bytes.count).contains(failure.offset), "\(failure) of \(bytes.count)") }
        return failure?.offset
    }

    private static func walk(
        _ scanner: inout JSONScanner, _ bytes: Span<UInt8>, depth: Int
    ) throws(MalformedInput) {
        let first = scanner.peek()
        if first == UInt8(ascii: "{") || first == UInt8(ascii: "["), depth == JSONScanner.maximumDepth {
            throw MalformedInput("too deep", at: scanner.position)
        }
        switch first {
        case UInt8(ascii: "{"):
            var more = try scanner.openObject()
            while more {
                check(try scanner.key(), scanner, bytes)
                try walk(&scanner, bytes, depth: depth + 1)
                more = try scanner.continueObject()
            }
        case UInt8(ascii: "["):
            var more = try scanner.openArray()
            while more {
                try walk(&scanner, bytes, depth: depth + 1)
                more = try scanner.continueArray()
            }
        case UInt8(ascii: "\""): check(try scanner.string(), scanner, bytes)
        case UInt8(ascii: "n"): require(try scanner.skipNull(), "null was not stepped over")
        default:
            var integer = scanner
            let start = scanner.position
            let value = try? integer.unsignedInteger()
            require(integer.position <= bytes.count, "position \(integer.position) of \(bytes.count)")
            try scanner.skipValue()
            // Not every value is an unsigned integer.
            guard let value else { return }
            let digits = Array(copying: bytes.extracting(start..<integer.position))
            require(UInt64(requireUTF8(digits)) == value, "\(value) was read from \(digits)")
            require(integer.position == scanner.position, "\(value) ends at \(integer.position) or \(scanner.position)")
        }
    }

    private static func check(_ string: JSONString, _ scanner: borrowing JSONScanner, _ bytes: Span<UInt8>) {
        let decoded = scanner.text(of: string)
        let text = requireUTF8(decoded)
        require(decoded.count <= string.range.count, "\(text) is longer than \(string)")
        if !string.hasEscapes {
            require(decoded == Array(copying: bytes.extracting(string.range)), "\(text) is not the text of the input")
        }
        require(scanner.matches(string, text), "\(text) does not match itself")
        require(!scanner.matches(string, text + "x"), "\(text) matches more")
        for limit in [1, 5, 1000] {
            let start = string.decoded(from: bytes, limit: limit)
            _ = requireUTF8(start)
            let isStart = start.count >= min(limit, decoded.count) && decoded.starts(with: start)
            require(isStart, "\(decoded) does not start with \(start)")
        }
        requirePrintable(text.printable())
    }
}
