import Foundation
import TestSupport
import Testing

@testable import CheckpointReports

@Suite struct PageTests {
    /// Markup in a name, also with scalars that join `<`, `&` and quotes into other characters.
    private let odd =
        #"/a & b/<script>alert("x")</script>"# + "\u{202E}\u{11A84}<img \u{D4E}& \u{600}\"x\"\u{301} <\u{338}>"

    @Test func everyTextIsEscaped() throws {
        var page = Page(odd, verdict: odd, .bad)
        page.addHeading(odd)
        page.addParagraph(odd)
        page.addList([odd])
        page.addFacts([(odd, odd)])
        page.addTable([odd, "n"], [[odd, "1"], ["b", "2"]], highlighted: [1])
        page.addChart(Chart(odd, xTitle: odd, xRange: 0...1, [.init(odd, [(0, 1)])]))
        let html = page.html
        #expect(!Array(html.unicodeScalars).contains(Array("<script".unicodeScalars)) && !html.contains("\u{202E}"))
        #expect(!Array(html.utf8).contains(Array("<img".utf8)))
        let markup = try Markup(html)
        let shown = odd.replacing("\u{202E}", with: #"\u{202E}"#)
        for name in ["h2", "p", "li", "dt", "dd"] { #expect(markup.all(name).map(\.text) == [shown]) }
        #expect(markup.all("h1")[0].text == "\(shown): \(shown)" && markup.all("title")[0].text == "\(shown): \(shown)")
        #expect(markup.all("td").map(\.text) == [shown, "1", "b", "2"])
        #expect(markup.all("td").map { $0.attributes["class"] } == ["text", nil, "text", nil])
        #expect(markup.all("tr").map { $0.attributes["class"] } == [nil, nil, "bad"])
    }

    @Test func aPageLoadsNothing() {
        var page = Page("verify", verdict: "match", .good)
        page.addChart(Chart("loss", xTitle: "step", xRange: 0...1, [.init("loss", [(0, 1)])]))
        let html = page.html.replacing("http://www.w3.org/2000/svg", with: "")
        for word in ["<script", "src=", "href=", "http", "url(", "@import", "<link"] { #expect(!html.contains(word)) }
    }

    /// Text has a contrast of at least 4.5:1, and lines and cells of at least 3:1 or a letter that has one.
    @Test func coloursHaveEnoughContrast() throws {
        for theme in PageStyle.colours.components(separatedBy: "@media") {
            var colours: [String: Double] = [:]
            for match in theme.matches(of: #/--([a-z0-9-]+): #([0-9a-f]{6});/#) {
                colours[String(match.1)] = try luminance(#require(Int(match.2, radix: 16)))
            }
            func contrast(_ a: String, _ b: String) throws -> Double {
                let (a, b) = (try #require(colours[a]), try #require(colours[b]))
                return (max(a, b) + 0.05) / (min(a, b) + 0.05)
            }
            for text in ["ink", "quiet", "good", "bad"] { #expect(try contrast(text, "page") >= 4.5, "\(text)") }
            for line in ["s0", "s1", "s2", "s3"] { #expect(try contrast(line, "page") >= 3, "\(line)") }
            for kind in ["gqa", "mha", "rwkv7"] { #expect(try contrast(kind, kind + "-ink") >= 4.5, "\(kind)") }
            // Kinds differ in lightness, not only in hue.
            for (a, b) in [("gqa", "rwkv7"), ("gqa", "mha"), ("mha", "rwkv7")] {
                #expect(try contrast(a, b) >= 1.25, "\(a), \(b)")
            }
        }
    }

    /// The relative luminance of an sRGB colour, by WCAG 2.
    private func luminance(_ colour: Int) -> Double {
        zip([16, 8, 0], [0.2126, 0.7152, 0.0722]).reduce(0) { sum, channel in
            let value = Double(colour >> channel.0 & 255) / 255
            return sum + channel.1 * (value <= 0.04045 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4))
        }
    }

    @Test(arguments: [
        (["a.npy"], ["a.npy"]), (["x/a.npy", "y/b.npy"], ["a.npy", "b.npy"]),
        (["x/a.npy", "y/a.npy"], ["x/a.npy", "y/a.npy"]), (["a.npy", "y/a.npy"], ["a.npy", "y/a.npy"]),
        (["p/x/a.npy", "q/x/a.npy", "b"], ["p/x/a.npy", "q/x/a.npy", "b"]), (["x/a", "x//a"], ["x/a", "x//a"]),
        (["/", ""], ["/", ""]), ([], []),
    ])
    func shortNamesTellPathsApart(paths: [String], names: [String]) {
        #expect(shortNames(paths) == names)
    }
}
