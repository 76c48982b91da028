import Bytes
import CheckpointJSON
import Testing

@Suite struct JSONWriterTests {
    private func written(_ write: (inout JSONWriter) -> Void) throws -> String {
        let received = Received()
        try JSONWriter.document(to: ByteOutput { received.bytes += $0 }, write)
        return String(decoding: received.bytes, as: UTF8.self)
    }

    @Test func indentsAllButWhatIsOnOneLine() throws {
        let text = try written { json in
            json.member("a", 1)
            json.array("b", of: [0.1]) { json, number in
                json.member("c", number)
                json.member("d", [1, nil])
                json.array("e") { $0.value(true) }
            }
            json.array("f") { json in
                json.object(onOneLine: true) { $0.member("g", ["h"]) }
                json.value("i")
            }
            json.object("j") { _ in }
            json.object("k", of: 2) { $0.member("l", $1) }
            json.object("m", of: nil as Int?) { $0.member("l", $1) }
            json.object("n", onOneLine: true) { $0.object("o") { $0.member(text: "p\"", JSONValue.null) } }
        }
        #expect(
            text == """
                {
                  "a": 1,
                  "b": [
                    {"c": 0.1, "d": [1, null], "e": [true]}
                  ],
                  "f": [
                    {"g": ["h"]},
                    "i"
                  ],
                  "j": {},
                  "k": {"l": 2},
                  "m": null,
                  "n": {"o": {"p\\"": null}}
                }

                """)
    }

    @Test(arguments: ["", "plain", "q\"b\\n\n\t\u{1}", "é", "\u{202E}\u{200B}\u{E0041}\u{7F}", "naïve", "😀"])
    func writesStringsThatReadBackAsTheyWere(text: String) throws {
        let document = Array(try written { $0.member(text: text, text) }.utf8)
        #expect(try JSONValue(document: document) == .object([ByteString(text): .string(ByteString(text))]))
        #expect(!String(decoding: document, as: UTF8.self).unicodeScalars.contains { $0.isUnprintable && $0 != "\n" })
    }

    @Test func writesNullForNumbersThatAreNotFinite() throws {
        let numbers = [Double.nan, -Double.infinity, Double.leastNonzeroMagnitude]
        #expect(try written { $0.member("a", numbers) } == "{\n  \"a\": [null, null, 5e-324]\n}\n")
    }

    @Test func passesOnTheReceiversFirstFailure() {
        struct Full: Error {}
        #expect(throws: Full.self) {
            var output = ByteOutput { _ in throw Full() }
            for _ in 0..<100_000 { output.write("more than one piece") }
            try output.finish()
        }
    }
}

private final class Received {
    var bytes: [UInt8] = []
}
