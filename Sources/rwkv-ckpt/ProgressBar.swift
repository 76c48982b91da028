import Bytes
import CheckpointReports
import Glibc
import Synchronization

/// A progress bar for work that takes more than a second; drawn on standard error if that is a terminal.
final class ProgressBar: Sendable {
    private static let width = 30

    private struct State {
        var lastDrawn: ContinuousClock.Instant?
    }

    private let text: @Sendable (Int) -> String
    private let isOnTerminal = isatty(STDERR_FILENO) == 1
    private let start = ContinuousClock.now
    private let state = Mutex(State())

    /// Creates a bar that formats amounts of work with `text`; by default, as bytes.
    init(_ text: @escaping @Sendable (Int) -> String = byteText) { self.text = text }

    /// Draws the progress and a note, at most ten times a second.
    func show(_ done: Int, of total: Int, note: String = "") {
        guard isOnTerminal, total > 0 else { return }
        let now = ContinuousClock.now
        guard now - start > .seconds(1) else { return }
        state.withLock { state in
            if let last = state.lastDrawn, now - last < .milliseconds(100), done < total { return }
            state.lastDrawn = now
            let filled = min(Self.width, Self.width * done / total)
            let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: Self.width - filled)
            let rate = Double(done) / ((now - start) / .seconds(1))
            let left = Int((Double(total - done) / max(rate, 1)).rounded(.up))
            draw(
                "\(bar) \(100 * done / total)%  \(text(done)) of \(text(total))  \(text(Int(rate)))/s  \(left) s left\(note.isEmpty ? "" : "  \(note)")"
            )
        }
    }

    /// Erases the bar.
    func clear() {
        state.withLock { state in
            guard state.lastDrawn != nil else { return }
            state.lastDrawn = nil
            draw("")
        }
    }

    private func draw(_ text: String) {
        var output = standardError()
        output.write("\r" + text + "\u{1B}[K")
        try? output.finish()
    }
}
