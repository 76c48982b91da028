import CheckpointJSON
import Testing

@Suite struct JSONWriterTests {
    private func written(_ write: (inout JSONWriter) -> Void) throws -> String {
        let received = Received()
        var json = JSONWriter(ByteOutput { received.bytes += $0 })
        write(&json)
        try json.finish()
        return String(decoding: received.bytes, as: UTF8.self)
    }

    @Test func indentsAllButWhatStandsOnOneLine() throws {
        let text = try written { json in
            json.beginObject()
            json.key("a")
            json.value(1)
            json.key("b")
            json.beginArray()
            json.beginObject(onOneLine: true)
            json.key("c")
            json.value(0.1)
            json.key("d")
            json.beginArray()
            json.value(1)
            json.null()
            json.end()
            json.end()
            json.end()
            json.key("e")
            json.beginObject()
            json.end()
            json.end()
        }
        #expect(
            text == """
                {
                  "a": 1,
                  "b": [
                    {"c": 0.1, "d": [1, null]}
                  ],
                  "e": {}
                }

                """)
    }

    @Test(arguments: ["", "plain", "q\"b\\n\n\t\u{1}", "é", "\u{202E}\u{200B}\u{E0041}\u{7F}", "naïve", "😀"])
    func writesStringsThatReadBackAsTheyWere(text: String) throws {
        let document = Array(try written { $0.value(text) }.utf8)
        var scanner = JSONScanner(document.span)
        let string = try scanner.string()
        #expect(Array(text.utf8) == scanner.text(of: string))
        #expect(!String(decoding: document, as: UTF8.self).unicodeScalars.contains { $0.isUnprintable })
    }

    @Test func writesNullForWhatIsNoNumber() throws {
        #expect(try written { $0.value(Double.nan) } == "null")
        #expect(try written { $0.value(-Double.infinity) } == "null")
        #expect(try written { $0.value(Double.leastNonzeroMagnitude) } == "5e-324")
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
