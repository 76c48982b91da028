import CLibFuzzer
import Glibc

/// The test that ``fuzz(_:)`` runs, set once before the first call; libFuzzer's callback has no context.
nonisolated(unsafe) private var target: (Span<UInt8>) -> Void = { _ in }

/// Runs libFuzzer on `test`, with the command line's arguments.
///
/// It is called from an ordinary `@main`: the package manager renames the main function of every executable, which does not work
/// with the one that libFuzzer has.
///
/// - Parameter test: tests one input; a finding is a trap. The bytes are a copy without slack at its end, so that the address
///   sanitizer detects reads beyond it.
public func fuzz(_ test: @escaping (Span<UInt8>) -> Void) -> Never {
    target = test
    var count = CommandLine.argc
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
    exit(
        LLVMFuzzerRunDriver(&count, &arguments) { data, count in
            target(UnsafeBufferPointer(start: data, count: count).span)
            return 0
        })
}

extension [UInt8] {
    /// The bytes of `span`.
    public init(copying span: Span<UInt8>) {
        self = span.withUnsafeBufferPointer { Array($0) }
    }
}

/// Stops with `message` unless the condition holds.
///
/// `precondition` would also stop, but optimised code does not say which one failed.
public func require(
    _ condition: Bool, _ message: @autoclosure () -> String, file: StaticString = #file, line: UInt = #line
) {
    if !condition { fatalError(message(), file: file, line: line) }
}

/// Stops unless a terminal shows `text` on one line, in the order in which it is written.
///
/// Uses the Unicode tables, not the list that made the text printable.
public func requirePrintable(_ text: String, file: StaticString = #file, line: UInt = #line) {
    for scalar in text.unicodeScalars {
        let isHarmful =
            switch scalar.properties.generalCategory {
            case .control, .lineSeparator, .paragraphSeparator: true
            default: scalar.properties.isBidiControl
            }
        require(
            !isHarmful, "U+\(String(scalar.value, radix: 16, uppercase: true)) in printed text", file: file, line: line)
    }
}

/// Stops unless `bytes` are UTF-8; returns their text.
public func requireUTF8(_ bytes: some Collection<UInt8>, file: StaticString = #file, line: UInt = #line) -> String {
    guard let text = String(validating: bytes, as: UTF8.self), text.utf8.elementsEqual(bytes) else {
        fatalError("not UTF-8: \(Array(bytes))", file: file, line: line)
    }
    return text
}
