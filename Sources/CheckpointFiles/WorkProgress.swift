import Synchronization

/// How far a long piece of work is, and the way to stop it; made by the caller, shared with the work.
public final class WorkProgress: Sendable {
    private let done = Atomic<Int>(0)
    private let isStopped = Atomic<Bool>(false)
    private let report: @Sendable (_ done: Int, _ total: Int) -> Void

    /// Progress that calls `report`, from any thread, with the bytes done and the bytes there are.
    public init(report: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }) {
        self.report = report
    }

    /// Makes the work end soon with a ``CheckpointError`` of category `cancelled`.
    public func cancel() {
        isStopped.store(true, ordering: .relaxed)
    }

    package var isCancelled: Bool { isStopped.load(ordering: .relaxed) }

    package func advance(by count: Int, of total: Int) {
        report(done.add(count, ordering: .relaxed).newValue, total)
    }

    /// Tells of work that was done, and ends it where that was asked for.
    package func advance(by count: Int, of total: Int, path: String) throws(CheckpointError) {
        advance(by: count, of: total)
        guard !isCancelled else { throw CheckpointError(.cancelled, path: path, "stopped as asked") }
    }
}
