import CheckpointFiles
import Dispatch
import Glibc

/// Does work that ends in order, with nothing half-made left behind, when the user interrupts it.
func interruptible<Result>(_ progress: WorkProgress, _ work: () throws -> Result) rethrows -> Result {
    // A limit on the size of files is an error like any other.
    signal(SIGXFSZ, SIG_IGN)
    // nohup has it ignored, and that it stays.
    var hangUp = sigaction()
    sigaction(SIGHUP, nil, &hangUp)
    let isIgnored = unsafeBitCast(hangUp.__sigaction_handler.sa_handler, to: Int.self) == 1
    let numbers = [SIGINT, SIGTERM] + (isIgnored ? [] : [SIGHUP])
    let sources = numbers.map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler { progress.cancel() }
        source.resume()
        return source
    }
    defer {
        for source in sources { source.cancel() }
        for number in numbers { signal(number, SIG_DFL) }
    }
    return try work()
}
