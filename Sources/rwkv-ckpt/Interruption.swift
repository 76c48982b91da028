import Bytes
import CheckpointFiles
import Dispatch
import Glibc

/// Runs `work`, and cancels `progress` on SIGINT, SIGTERM or SIGHUP, so that the work stops and leaves no partial
/// output.
func interruptible<Result>(_ progress: WorkProgress, _ work: () throws -> Result) rethrows -> Result {
    // Ignore the signal, so that writing past the file size limit fails with an error instead of killing the process.
    signal(SIGXFSZ, SIG_IGN)
    // Under nohup, SIGHUP is ignored and must stay ignored.
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
