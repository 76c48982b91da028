import Synchronization

/// How far a long piece of work is, and the way to stop it; made by the caller, shared with the work.
public final class WorkProgress: Sendable {
    private let done = Atomic<Int>(0)
    private let isStopped = Atomic<Bool>(false)
    private let whole: WorkProgress?
    private let report: @Sendable (_ done: Int, _ total: Int) -> Void

    /// Progress that calls `report`, from any thread, with how much is done and how much there is: bytes, or tokens.
    public init(report: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }) {
        self.report = report
        whole = nil
    }

    /// A part of other work, which stops when that is stopped, and tells how far it is by itself.
    package init(
        partOf whole: WorkProgress, report: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) {
        self.whole = whole
        self.report = report
    }

    /// Makes the work end soon with a ``CheckpointError`` of category `cancelled`.
    public func cancel() {
        isStopped.store(true, ordering: .relaxed)
    }

    package var isCancelled: Bool { isStopped.load(ordering: .relaxed) || whole?.isCancelled == true }

    package func advance(by count: Int, of total: Int) {
        report(done.add(count, ordering: .relaxed).newValue, total)
    }

    /// Ends work where that was asked for.
    package func check(_ path: String) throws(CheckpointError) {
        guard !isCancelled else { throw CheckpointError(.cancelled, path: path, "stopped as asked") }
    }
}
