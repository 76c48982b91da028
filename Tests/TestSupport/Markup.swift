import Foundation
import FoundationXML

/// The elements of an XML document or of a page whose markup is well-formed XML, in the order in which they begin.
package struct Markup {
    /// An element.
    package struct Element: Sendable {
        /// The name of the tag.
        package let name: String
        /// The attributes, by name.
        package let attributes: [String: String]
        /// The text directly inside the element and inside its descendants.
        package fileprivate(set) var text = ""
        /// The indices of the elements that contain this one, from the outermost.
        fileprivate let ancestors: [Int]

        /// Returns a numeric attribute; NaN if it is missing.
        package func number(_ name: String) -> Double { attributes[name].flatMap(Double.init) ?? .nan }
    }

    /// The elements.
    package let elements: [Element]

    /// Parses a document.
    ///
    /// - Throws: the parser's error if the markup is not well-formed.
    package init(_ text: String) throws {
        let parser = XMLParser(data: Data(text.utf8))
        let reader = Reader()
        parser.delegate = reader
        guard parser.parse() else { throw parser.parserError ?? CocoaError(.fileReadCorruptFile) }
        elements = reader.elements
    }

    /// Returns the elements of a tag, in order.
    package func all(_ name: String) -> [Element] { elements.filter { $0.name == name } }

    /// Returns the elements of a tag inside elements of a class.
    package func all(_ name: String, inside style: String) -> [Element] {
        all(name).filter { $0.ancestors.contains { elements[$0].attributes["class"] == style } }
    }

    private final class Reader: NSObject, XMLParserDelegate {
        var elements: [Element] = []
        private var open: [Int] = []

        func parser(
            _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
            attributes: [String: String]
        ) {
            elements.append(Element(name: name, attributes: attributes, ancestors: open))
            open.append(elements.count - 1)
        }

        func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) {
            open.removeLast()
        }

        func parser(_ parser: XMLParser, foundCharacters string: String) {
            for index in open { elements[index].text += string }
        }
    }
}
