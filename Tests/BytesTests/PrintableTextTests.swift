import Bytes
import Testing

@Suite struct PrintableTextTests {
    @Test(arguments: [
        ("plain", "plain"), ("with \"quotes\"", "with \"quotes\""), ("é 层 😀", "é 层 😀"), ("\u{1B}[31m", "\\u{1B}[31m"),
        ("a\u{202E}b", "a\\u{202E}b"), ("\\u{1B}", "\\\\u{1B}"), ("line\nbreak", "line\\u{A}break"),
        ("\u{9B}", "\\u{9B}"),
    ])
    func escapesWhatATerminalWouldObey(text: String, printed: String) {
        #expect(text.printable() == printed)
    }

    @Test func cutsLongText() {
        #expect("abcdef".printable(limit: 3) == "abc…")
        #expect("abc".printable(limit: 3) == "abc")
    }
}
