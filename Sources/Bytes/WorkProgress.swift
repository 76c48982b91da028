import Synchronization

/// An object that reports the progress of long-running work and can cancel it.
///
/// The caller creates the object and passes it to the function that does the work.
public final class WorkProgress: Sendable {
    private let done = Atomic<Int>(0)
    private let isStopped = Atomic<Bool>(false)
    private let whole: WorkProgress?
    private let report: @Sendable (_ done: Int, _ total: Int) -> Void

    /// Creates a reporter that calls `report` with the amount done and the total, in bytes or tokens.
    ///
    /// The closure can be called on any thread.
    public init(report: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }) {
        self.report = report
        whole = nil
    }

    /// Creates a reporter for one part of the work that `whole` reports on.
    ///
    /// Cancelling `whole` also cancels this part, but the part counts and reports its progress separately.
    package init(
        partOf whole: WorkProgress, report: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) {
        self.whole = whole
        self.report = report
    }

    /// Asks the work to stop.
    ///
    /// The work throws a ``CheckpointError`` of category `cancelled` soon afterwards.
    public func cancel() {
        isStopped.store(true, ordering: .relaxed)
    }

    package var isCancelled: Bool { isStopped.load(ordering: .relaxed) || whole?.isCancelled == true }

    package func advance(by count: Int, of total: Int) {
        report(done.add(count, ordering: .relaxed).newValue, total)
    }

    /// Throws a ``CheckpointError`` of category `cancelled` if the work has been cancelled.
    package func check(_ path: String) throws(CheckpointError) {
        guard !isCancelled else { throw CheckpointError(.cancelled, path: path, "cancelled") }
    }
}
