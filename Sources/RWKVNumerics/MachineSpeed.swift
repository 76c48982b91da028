import CRWKVKernels
import Glibc

/// How long something took, again and again.
public struct Timings: Sendable {
    /// Seconds of all processors together, a value each time.
    public private(set) var processor: [Double] = []
    /// Seconds by the clock.
    public private(set) var clock: [Double] = []

    /// Nothing timed yet.
    public init() {}

    /// Does something once, and notes how long it took.
    ///
    /// - Parameter work: what is timed.
    /// - Returns: what `work` gives.
    /// - Throws: what `work` throws.
    public mutating func time<Result, Failure: Error>(
        _ work: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let (processor, clock) = (seconds(CLOCK_PROCESS_CPUTIME_ID), seconds(CLOCK_MONOTONIC))
        let result = try work()
        self.processor.append(seconds(CLOCK_PROCESS_CPUTIME_ID) - processor)
        self.clock.append(seconds(CLOCK_MONOTONIC) - clock)
        return result
    }

    /// The median, and no less than a nanosecond.
    ///
    /// Of one thread it is its processor's seconds, in which others on the machine show least; of several the clock's.
    public func median(threads: Int) -> Double {
        let times = (threads == 1 ? processor : clock).sorted()
        return times.isEmpty ? 1e-9 : max(1e-9, (times[(times.count - 1) / 2] + times[times.count / 2]) / 2)
    }

    private func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}

extension Kernels {
    /// Multiplies and adds fp32 numbers with all threads, and does nothing else.
    ///
    /// - Parameter timings: to which is added how long it took.
    /// - Returns: how many operations that were.
    public func multiplyAdd(_ timings: inout Timings) -> Double {
        let (rounds, pieces) = (1 << 15, 8 * threads)
        timings.time { forEach(pieces) { _ in _ = machine.multiply_add(rounds) } }
        return Double(pieces * rounds) * machine.multiply_add(1)
    }

    /// Reads bytes with all threads, and does nothing else.
    ///
    /// - Parameters:
    ///   - parts: of memory; together more than caches hold, where it is memory's speed that is asked for.
    ///   - timings: to which is added how long it took.
    public func read(_ parts: [UnsafeRawBufferPointer], _ timings: inout Timings) {
        let pieces = parts.flatMap { part in
            part.count.parts(of: 1 << 20).map { UnsafeRawBufferPointer(rebasing: part[$0]) }
        }
        timings.time { forEach(pieces.count) { machine.read(pieces[$0].baseAddress, pieces[$0].count) } }
    }
}
