import Bytes
import CheckpointJSON
import Testing

@Suite struct JSONValueTests {
    private func value(_ text: String) throws(MalformedInput) -> JSONValue { try JSONValue(document: Array(text.utf8)) }

    /// Strings that Swift considers equal are different keys if their bytes differ.
    @Test func keepsKeysThatDifferByNormalisationAlone() throws {
        let object = try value("{\"caf\u{E9}\": 1, \"cafe\u{301}\": 2, \"e\\u0301\": 3, \"\\u00e9\": 4}")
        let integers = ["caf\u{E9}", "cafe\u{301}", "e\u{301}", "\u{E9}"].map { object[$0]?.integer }
        #expect(integers == [1, 2, 3, 4])
        let text = String(
            decoding: try ByteOutput.bytes { output in
                try JSONWriter.document(to: output) { $0.members(object.object ?? [:]) }
            }, as: UTF8.self)
        // The keys are sorted by their bytes: 63 61 66 65 CC 81, 63 61 66 C3 A9, 65 CC 81, C3 A9.
        let lines = text.split(separator: "\n").map { Array($0.utf8) }
        let expected = [
            "{", "  \"cafe\u{301}\": 2,", "  \"caf\u{E9}\": 1,", "  \"e\u{301}\": 3,", "  \"\u{E9}\": 4", "}",
        ]
        #expect(lines == expected.map { Array($0.utf8) })
    }

    @Test(arguments: [
        (#"{"a": 1, "a": 1}"#, 10, "a"), (#"[{"x": {"a": {"b": 1}, "b": 2, "a": []}}]"#, 32, "a"),
        (#"{"a": 1, "\u0061": 2}"#, 10, "a"), ("{\"\u{E9}\": 1, \"\\u00E9\": 1}", 11, "\u{E9}"),
        (#"{"": 1, "": 1}"#, 9, ""),
    ])
    func refusesAKeyThatAnObjectHasTwice(text: String, offset: Int, key: String) {
        let error = #expect(throws: MalformedInput.self) { try value(text) }
        #expect(error?.problem == "an object has the key \"\(key)\" twice" && error?.offset == offset, "\(text)")
    }

    @Test func keepsTheSameKeyOfSeveralObjects() throws {
        let objects = try value(#"[{"a": {"a": 1}}, {"a": 2}]"#)
        #expect(objects.array?[0]["a"]?["a"]?.integer == 1 && objects.array?[1]["a"]?.integer == 2)
    }

    @Test(arguments: [(#"{"a": "x\u0000y"}"#, 7), (#"{"b\u0000": 1}"#, 2), (#"["\\u0000", "\\\u0000"]"#, 13)])
    func refusesNUL(text: String, offset: Int) {
        let error = #expect(throws: MalformedInput.self) { try value(text) }
        #expect(error?.problem == "a string has a NUL in it" && error?.offset == offset, "\(text)")
    }

    @Test func readsABackslashBeforeWhatLooksLikeAnEscape() throws {
        #expect(try value(#"{"a\\u0000b": "c\\u0000"}"#)["a\\u0000b"] == .string("c\\u0000"))
    }

    /// Reads documents at the scanner's depth limit, and strings that contain structural characters.
    @Test func readsWhatTheScannerPasses() throws {
        let deep = String(repeating: #"{"a":["#, count: 32) + String(repeating: "]}", count: 32)
        #expect(try value(deep)["a"]?.array?.count == 1)
        #expect(try value(#"{"a:\"{}": "b\\\":\"", "c": ":"}"#)["a:\"{}"] == .string("b\\\":\""))
    }
}
