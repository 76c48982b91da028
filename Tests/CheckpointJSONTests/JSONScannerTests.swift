import Bytes
import CheckpointJSON
import Testing

@Suite struct JSONScannerTests {
    private func check(_ text: String) throws(MalformedInput) {
        let bytes = Array(text.utf8)
        var scanner = JSONScanner(bytes.span)
        try scanner.skipValue()
        try scanner.end()
    }

    private func string(_ text: String) throws(MalformedInput) -> String {
        let bytes = Array(text.utf8)
        var scanner = JSONScanner(bytes.span)
        let string = try scanner.string()
        try scanner.end()
        return String(decoding: scanner.text(of: string), as: UTF8.self)
    }

    @Test(arguments: [
        "{}", "[]", " [ ] ", "0", "-0", "10", "-1.5e+10", "1E5", "0.0", "true", "false", "null", #""""#,
        #"{"a":{"b":[1,{},[]]}}"#,
        "[[[[[[[[[[]]]]]]]]]]", #"{"":0,"":1}"#, #"["\u0041\ud83d\ude00","é😀"]"#, "\t\r\n 1 \t\r\n",
        String(repeating: "[", count: 64) + String(repeating: "]", count: 64),
        String(repeating: #"{"a":"#, count: 64) + "1" + String(repeating: "}", count: 64),
    ])
    func acceptsWhatTheStandardAllows(text: String) throws {
        try check(text)
    }

    @Test(arguments: [
        ("", 0), (" ", 1), ("[", 1), ("[1", 2), ("[1,", 3), ("[1,]", 3), ("[,1]", 1), ("[1 2]", 3), ("{", 1),
        (#"{"a"}"#, 4),
        (#"{"a":}"#, 5), (#"{"a":1,}"#, 7), ("{1:1}", 1), ("01", 0), ("-", 1), ("1.", 2), (".5", 0), ("1e", 2),
        ("1e+", 3), ("+1", 0),
        ("0x1", 1), ("tru", 3), ("True", 0), ("nul", 3), ("NaN", 0), ("Infinity", 0), ("'a'", 0), (#""a"#, 2),
        (#""\"#, 2),
        (#""\x""#, 2), (#""\u12""#, 5), (#""\ud800""#, 1), (#""\udc00""#, 1), (#""\ud800\u0041""#, 1), ("\"a\nb\"", 2),
        ("1 1", 2),
        ("{}x", 2), ("[}", 1), ("{]", 1), ("[{]}", 2), ("/**/1", 0), ("\u{FEFF}1", 0),
        (String(repeating: "[", count: 65), 64),
    ])
    func refusesWhatItForbids(text: String, offset: Int) {
        let error = #expect(throws: MalformedInput.self) { try check(text) }
        #expect(error?.offset == offset, "\(text): \(String(describing: error))")
    }

    /// Puts plain text of various lengths before and after a special byte, so that the byte is at every position in an
    /// eight-byte word.
    @Test(arguments: 0..<20) func findsTheEndOfAStringAtAnyPlace(length: Int) throws {
        let plain = String("abcdefghijklmnopqrst".prefix(length))
        for rest in ["", "x", "0123456789"] {
            #expect(try string("\"\(plain)é\(rest)\"") == "\(plain)é\(rest)")
            #expect(try string("\"\(plain)\\n\(rest)\"") == "\(plain)\n\(rest)")
            #expect(try string("\"\(plain)\u{7F}\(rest)\"") == "\(plain)\u{7F}\(rest)")
            for control in ["\u{0}", "\u{1F}", "\n"] {
                let error = #expect(throws: MalformedInput.self) { _ = try string("\"\(plain)\(control)\(rest)\"") }
                #expect(error?.offset == length + 1)
            }
        }
    }

    @Test func decodesEveryEscape() throws {
        #expect(try string(#""\"\\\/\b\f\n\r\t\u0000\u00e9\uFFFF\ud83d\ude00""#) == "\"\\/\u{8}\u{C}\n\r\t\0é\u{FFFF}😀")
    }

    @Test func cutsExcerptsBetweenScalars() throws {
        let bytes = Array("\"ééé\"".utf8)
        var scanner = JSONScanner(bytes.span)
        let string = try scanner.string()
        #expect(string.decoded(from: bytes.span, limit: 3) == Array("éé".utf8))
    }

    /// Compares the scanner with the standard library's validation, for two-byte sequences and for longer sequences at
    /// the limits of UTF-8.
    @Test func refusesExactlyWhatIsNotUTF8() {
        var sequences: [[UInt8]] = []
        for first in UInt8(0x80)...0xFF { for second in UInt8(0x20)...0xFF { sequences.append([first, second]) } }
        for lead in [UInt8(0xE0), 0xE1, 0xEC, 0xED, 0xEE, 0xEF] {
            for second in UInt8(0x7F)...0xC0 { sequences.append([lead, second, 0x80]) }
        }
        for lead in UInt8(0xF0)...0xF5 {
            for second in UInt8(0x7F)...0xC0 { sequences.append([lead, second, 0x80, 0xBF]) }
        }
        for sequence in sequences
        where !sequence.contains(where: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") }) {
            let quote = UInt8(ascii: "\"")
            let bytes = [quote] + sequence + [quote]
            var scanner = JSONScanner(bytes.span)
            let isAccepted = (try? scanner.string()) != nil
            #expect(isAccepted == (String(validating: sequence, as: UTF8.self) != nil), "\(sequence)")
        }
    }

    @Test(arguments: [("0", 0), ("7", 7), ("18446744073709551615", UInt64.max), (" 5", 5)])
    func readsIntegers(text: String, value: UInt64) throws {
        let bytes = Array(text.utf8)
        var scanner = JSONScanner(bytes.span)
        #expect(try scanner.unsignedInteger() == value)
    }

    @Test(arguments: [
        "-1", "18446744073709551616", "99999999999999999999", "01", "1.0", "1e2", "\"1\"", "", "[", "1E1",
    ])
    func refusesOtherIntegers(text: String) {
        #expect(throws: MalformedInput.self) {
            let bytes = Array(text.utf8)
            var scanner = JSONScanner(bytes.span)
            _ = try scanner.unsignedInteger()
        }
    }
}
