import CheckpointFiles
import Dispatch
import Glibc

/// Does work that ends in order, with nothing half-made left behind, when the user interrupts it.
func interruptible<Result>(_ progress: WorkProgress, _ work: () throws -> Result) rethrows -> Result {
    // A limit on the size of files is an error like any other.
    signal(SIGXFSZ, SIG_IGN)
    let sources = [SIGINT, SIGTERM, SIGHUP].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler { progress.cancel() }
        source.resume()
        return source
    }
    defer {
        for source in sources { source.cancel() }
        for number in [SIGINT, SIGTERM, SIGHUP] { signal(number, SIG_DFL) }
    }
    return try work()
}
