import CRWKVKernels
import Glibc
public import RWKVNumerics

/// The durations of repeated runs.
public struct Timings: Sendable {
    /// The CPU time of each run in seconds, summed over all threads.
    public private(set) var processor: [Double] = []
    /// The wall-clock time of each run in seconds.
    public private(set) var clock: [Double] = []

    /// Creates timings without any runs.
    public init() {}

    /// Runs a closure once and records how long it takes.
    ///
    /// - Parameter work: the closure to time.
    /// - Returns: the closure's result.
    /// - Throws: any error that the closure throws.
    public mutating func time<Result, Failure: Error>(
        _ work: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let (processor, clock) = (seconds(CLOCK_PROCESS_CPUTIME_ID), seconds(CLOCK_MONOTONIC))
        let result = try work()
        self.processor.append(seconds(CLOCK_PROCESS_CPUTIME_ID) - processor)
        self.clock.append(seconds(CLOCK_MONOTONIC) - clock)
        return result
    }

    /// Returns the median duration of a run in seconds, which is at least one nanosecond.
    ///
    /// For one thread, this is the median of the CPU time, which other processes affect least. For several threads, it
    /// is the median of the wall-clock time.
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
    /// Multiplies and adds fp32 numbers in registers on all threads, to measure peak arithmetic throughput.
    ///
    /// - Parameter timings: the timings to which the duration of this run is added.
    /// - Returns: the number of floating-point operations in the run.
    public func multiplyAdd(_ timings: inout Timings) -> Double {
        let (rounds, pieces) = (1 << 15, 8 * threads)
        timings.time { forEach(pieces) { _ in _ = machine.multiply_add(rounds) } }
        return Double(pieces * rounds) * machine.multiply_add(1)
    }

    /// Reads bytes on all threads and discards them, to measure memory bandwidth.
    ///
    /// - Parameters:
    ///   - parts: the memory regions to read. To measure main memory, their total size must exceed the size of the
    ///     caches.
    ///   - timings: the timings to which the duration of this run is added.
    public func read(_ parts: [UnsafeRawBufferPointer], _ timings: inout Timings) {
        let pieces = parts.flatMap { part in
            part.count.parts(of: 1 << 20).map { UnsafeRawBufferPointer(rebasing: part[$0]) }
        }
        timings.time { forEach(pieces.count) { machine.read(pieces[$0].baseAddress, pieces[$0].count) } }
    }
}
