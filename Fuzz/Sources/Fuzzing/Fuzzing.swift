import CLibFuzzer
import Glibc

/// The test that ``fuzz(_:)`` runs, which is global because libFuzzer's callback does not take a context.
///
/// It is set once, before libFuzzer starts.
nonisolated(unsafe) private var target: (Span<UInt8>) -> Void = { _ in }

/// Runs libFuzzer on `test` with the command-line arguments.
///
/// Call this function from an ordinary `@main` type. The package manager renames the main function of every executable,
/// so libFuzzer's own main function cannot be used.
///
/// - Parameter test: a function that tests one input, and traps if it finds a bug. The input is a copy in a buffer of
///   exactly its size, so that AddressSanitizer detects reads beyond its end.
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
    /// Creates an array with the bytes of `span`.
    public init(copying span: Span<UInt8>) {
        self = span.withUnsafeBufferPointer { Array($0) }
    }
}

/// Traps with `message` if the condition is false.
///
/// Unlike `precondition`, this function also prints the message and the location in optimised code.
public func require(
    _ condition: Bool, _ message: @autoclosure () -> String, file: StaticString = #file, line: UInt = #line
) {
    if !condition { fatalError(message(), file: file, line: line) }
}

/// Traps if `text` contains control characters, line or paragraph separators, or bidirectional controls.
///
/// The check uses Unicode properties, so that it does not depend on the code that makes text printable.
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

/// Returns the text of `bytes`, or traps if the bytes are not valid UTF-8.
public func requireUTF8(_ bytes: some Collection<UInt8>, file: StaticString = #file, line: UInt = #line) -> String {
    guard let text = String(validating: bytes, as: UTF8.self), text.utf8.elementsEqual(bytes) else {
        fatalError("not UTF-8: \(Array(bytes))", file: file, line: line)
    }
    return text
}
